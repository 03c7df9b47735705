"""What runs were made of: one configuration in full, the others by what differs; subjects; machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from polysite.report.run_folder import RunFolder

SPLITS = ("train", "validation", "test")


def flatten(content: object, prefix: str = "") -> dict[str, str]:
    """Nested content as ``a.b.c`` -> text.

    >>> flatten({"a": {"b": 1, "c": [2, 3]}})
    {'a.b': '1', 'a.c': '[2, 3]'}
    """
    if isinstance(content, Mapping) and content:
        flat: dict[str, str] = {}
        for key, value in content.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: str(content)}


def differing(contents: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Keys whose values differ between mappings, with the value of each (– where it has none)."""
    flat = [flatten(content) for content in contents]
    keys = dict.fromkeys(key for content in flat for key in content)
    return [
        (key, [content.get(key, "–") for content in flat])
        for key in keys
        if key and len({content.get(key) for content in flat}) > 1
    ]


def split_counts(run: RunFolder) -> list[tuple[str, list[int]]]:
    """Site -> number of subjects for training, validation and test."""
    return [
        (str(site), [len(parts.get(name) or ()) for name in SPLITS])
        for site, parts in run.splits.items()
        if isinstance(parts, Mapping)
    ]
