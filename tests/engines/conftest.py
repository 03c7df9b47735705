"""What the tests with processes of server and hospitals share: a consortium, and what its run gives in one process."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import enable_socket

from polysite import recipe
from polysite.run import create, train
from processes import Stage, make_kits, on_stage
from small_runs import digests, small_raw


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scans of three hospitals and the kits of four."""
    if find_spec("nvflare") is None:
        pytest.skip("nvflare is not installed: pip install '.[nvflare]'")
    folder = tmp_path_factory.mktemp("consortium")
    small_raw(folder)
    enable_socket()
    make_kits(folder / "kits")
    return folder


def chosen(data: Path, *sites: str, **over: Any) -> dict[str, Any]:
    """The YAML of a run of some of the sites, or of all."""
    raw = small_raw(data, **over)
    return {
        **raw,
        "sites": {name: site for name, site in raw["sites"].items() if name in (sites or raw["sites"])},
    }


@pytest.fixture(scope="session")
def here(consortium: Path) -> Callable[..., dict[str, str]]:
    """Digests of all states of a run that nobody disturbed, in one process; of some sites, or of all."""
    known: dict[str, dict[str, str]] = {}

    def trained(*sites: str, **over: Any) -> dict[str, str]:
        run = recipe.build(chosen(consortium, *sites, **over))
        if run.digest() not in known:
            folder = consortium / f"here-{run.digest()[:12]}"
            create(run, folder)
            train(folder)
            known[run.digest()] = digests(folder, "*.safetensors")
        return known[run.digest()]

    return trained


@pytest.fixture
def stage(consortium: Path, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Sets up a run of the consortium, of some of its sites or of all, in this test's folder."""
    with on_stage(tmp_path, consortium / "kits", {}) as made:

        def make(*sites: str, **over: Any) -> Stage:
            made.raw = chosen(consortium, *sites, **over)
            return made

        yield make
