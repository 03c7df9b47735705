"""A run computes the numbers that it computed when ``federation.json`` was written."""

import json
from typing import Any

import pytest

from golden import federation


def numbers(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested JSON by their path."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in numbers(part, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for key, part in enumerate(value) for k, v in numbers(part, f"{path}/{key}").items()}
    return {path: value}


@pytest.mark.parametrize("name", ["toy", "synthesis"])
def test_numbers_are_those_that_are_kept(toy_task: None, name: str) -> None:
    golden = json.loads(federation.FILE.read_text(encoding="utf-8"))
    kept, made = numbers(golden[name]), numbers(getattr(federation, name)())
    assert set(made) == set(kept)
    tolerance = golden["relative_tolerance"][name]
    far = {
        path: (value, made[path])
        for path, value in kept.items()
        if made[path]
        != (pytest.approx(value, rel=tolerance, abs=1e-6) if isinstance(value, float) else value)
    }
    assert not far, f"kept and made: {far}; if that is meant: {federation.COMMAND}"
