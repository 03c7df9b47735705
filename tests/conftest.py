"""What many tests use: one thread, toy runs and small federations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polysite import config, registry
from polysite.federation.crew import Crew, assemble
from polysite.federation.store import Saver

torch.set_num_threads(1)


@pytest.fixture
def toy_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the task ``toy``."""
    monkeypatch.setitem(registry.TABLES["tasks"], "toy", "toy:Toy")


def toy_raw(n_sites: int = 2, **over: Any) -> dict[str, Any]:
    """The YAML of a toy run."""
    raw: dict[str, Any] = {
        "name": "toy",
        "contrasts": ["T1w", "T2w"],
        "sites": {
            f"site{k}": {"data": {"format": "bids", "path": "nowhere"}, "tasks": ["T1w->T2w"]} for k in range(n_sites)
        },
        "task": {"name": "toy"},
        "algorithm": {"name": "fedavg", "private": ["head.*"]},
        "training": {"rounds": 3, "steps_per_round": 2, "learning_rate": 0.25, "flat_rounds": 3},
    }
    return config.merge(raw, over)


@pytest.fixture
def toy_crew(toy_task: None, tmp_path: Path) -> Any:
    """Makes crews of toy sites, each in a folder of its own; their savers are closed afterwards."""
    savers: list[Saver] = []

    def make(n_sites: int = 2, folder: str = "run", **over: Any) -> Crew:
        run = config.build(toy_raw(n_sites, **over))
        savers.append(Saver())
        cases = {name: {"train": [], "validation": [0], "test": []} for name in run.sites}
        return assemble(run, cases, tmp_path / folder, savers[-1])

    yield make
    for saver in savers:
        saver.close()


CrewMaker = Callable[..., Crew]
