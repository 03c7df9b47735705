"""An engine only carries: whichever it is, the same run leaves the same bytes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polysite import recipe
from polysite.engines.here import Here
from polysite.run import create, train
from small_runs import digests, small_raw

ALGORITHMS = ["local", "fedavg", "central", "pflsynth", "ditto"]
Trainer = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def trained(data: Path) -> Trainer:
    """Trains a run once for all tests; digests of its final models and of every store."""
    done: dict[str, dict[str, str]] = {}

    def make(algorithm: str, **engine: Any) -> dict[str, str]:
        folder = data / "-".join(map(str, [algorithm, *engine.values()]))
        if folder.name not in done:
            raw = small_raw(data, algorithm={"name": algorithm}, engine=engine)
            create(recipe.build(raw), folder)
            train(folder)
            done[folder.name] = digests(folder, "*.safetensors")
            shutil.rmtree(folder)
        return done[folder.name]

    return make


@pytest.mark.parametrize(
    ("algorithm", "workers"),
    [
        *[(algorithm, 2) for algorithm in ALGORITHMS[1:]],
        pytest.param("local", 2, marks=pytest.mark.slow),
        *[pytest.param(algorithm, 1, marks=pytest.mark.slow) for algorithm in ALGORITHMS],
    ],
)
def test_engines_leave_the_same_bytes(trained: Trainer, algorithm: str, workers: int) -> None:
    here = trained(algorithm, name="here", threads=1)
    apart = trained(algorithm, name="processes", workers=workers, threads=1)
    assert here == apart
    assert {f"sites/{site}/model.safetensors" for site in ("north", "south", "west")} < set(here)
    holders = {path.split("/store/")[0] for path in here if "/store/" in path}
    assert holders == (
        {"server", "sites/pooled"}
        if algorithm == "central"
        else {"server", "sites/north", "sites/south", "sites/west"}
    )
    assert sum("/store/" in path for path in here) == 2 * (
        2 * len(holders) - 1
    )  # two versions; sites' outboxes


def test_methods_leave_different_bytes(trained: Trainer) -> None:
    """What the test above compares is sensitive to how the models were trained."""
    made = [trained(name, name="here", threads=1)["sites/north/model.safetensors"] for name in ALGORITHMS]
    assert len(set(made)) == len(ALGORITHMS)


class _Crew:
    """As much of a crew as an engine needs to start."""

    sites: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.fixture
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_here_sets_the_threads(threads: None, tmp_path: Path) -> None:
    for count in (2, 1):
        Here(Here.Settings(threads=count), _Crew(tmp_path))  # type: ignore[arg-type]
        assert torch.get_num_threads() == count
    Here(Here.Settings(), _Crew(tmp_path))  # type: ignore[arg-type]
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))
