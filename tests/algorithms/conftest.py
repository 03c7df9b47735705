"""Small federations of the segmentation network."""

from pathlib import Path
from typing import Any

import pytest

from cubes import cubes_raw
from polysite import recipe, registry
from polysite.federation.crew import Crew, assemble
from polysite.federation.saver import Saver


@pytest.fixture
def cube_crew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes crews of sites with cubes, each in a folder of its own; their savers are closed afterwards."""
    monkeypatch.setitem(registry.TABLES["tasks"], "cubes", "cubes:Cubes")
    savers: list[Saver] = []

    def make(n_sites: int = 2, folder: str = "run", **over: Any) -> Crew:
        run = recipe.build(cubes_raw(n_sites, **over))
        savers.append(Saver())
        cases = {name: {"train": [0], "validation": [0], "test": []} for name in run.sites}
        return assemble(run, cases, tmp_path / folder, savers[-1])

    yield make
    for saver in savers:
        saver.close()
