"""What many tests use: one thread, toy runs and small federations."""

from pathlib import Path
from typing import Any

import pytest
import torch

from command import RUN, well
from polysite import recipe, registry
from polysite.federation.crew import Crew, assemble
from polysite.federation.saver import Saver
from toy import toy_raw

torch.set_num_threads(1)


@pytest.fixture
def toy_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the task ``toy``."""
    monkeypatch.setitem(registry.TABLES["tasks"], "toy", "toy:Toy")


@pytest.fixture
def toy_crew(toy_task: None, tmp_path: Path) -> Any:
    """Makes crews of toy sites, each in a folder of its own; their savers are closed afterwards."""
    savers: list[Saver] = []

    def make(n_sites: int = 2, folder: str = "run", **over: Any) -> Crew:
        run = recipe.build(toy_raw(n_sites, **over))
        savers.append(Saver())
        cases = {name: {"train": [], "validation": [0], "test": []} for name in run.sites}
        return assemble(run, cases, tmp_path / folder, savers[-1])

    yield make
    for saver in savers:
        saver.close()


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two phantom hospitals of three subjects in ``data/``, and ``run.yaml``; not to be changed."""
    folder = tmp_path_factory.mktemp("clinic")
    well("phantom", folder / "data", "--sites", 2, "--subjects", 3, "--voxel-mm", 6)
    (folder / "run.yaml").write_text(RUN.format(folder=folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(clinic: Path) -> Path:
    """A trained and evaluated run of the clinic; not to be changed."""
    well("train", clinic / "run.yaml", "--out", clinic / "run")
    well("evaluate", clinic / "run")
    return clinic / "run"
