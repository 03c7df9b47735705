"""The same run over bytes alone leaves the same bytes as in one process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cubes import cubes_raw
from hospitals import OPEN_POLICY, Loop, across, states
from polysite import recipe, registry
from polysite.config.run import Run
from polysite.engines.here import Here
from polysite.federation.across import Across
from polysite.federation.audit import Audit, missing_from, verify
from polysite.federation.crew import Crew, assemble
from polysite.federation.remote import Outpost
from polysite.federation.saver import saving
from polysite.federation.server import federate
from polysite.federation.tensor_files import read_tensors
from polysite.run import create, train
from small_runs import digests, small_raw


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("across")


@pytest.fixture(scope="module")
def here(data: Path) -> Callable[[str], dict[str, str]]:
    """Digests of all models and stores of a run in one process."""
    done: dict[str, dict[str, str]] = {}

    def make(algorithm: str) -> dict[str, str]:
        if algorithm not in done:
            folder = data / f"here-{algorithm}"
            create(recipe.build(small_raw(data, algorithm={"name": algorithm})), folder)
            train(folder)
            done[algorithm] = digests(folder, "*.safetensors")
        return done[algorithm]

    return make


@pytest.mark.parametrize(
    "algorithm", [pytest.param(name, marks=pytest.mark.slow) for name in ("ditto", "local")]
)
def test_other_methods_leave_the_same_bytes_too(
    here: Callable[[str], dict[str, str]], data: Path, tmp_path: Path, algorithm: str
) -> None:
    across(small_raw(data, algorithm={"name": algorithm}), tmp_path)
    assert states(digests(tmp_path, "*.safetensors")) == here(algorithm)


def test_hospitals_leave_the_same_bytes_and_nothing_private_on_the_wire(
    here: Callable[[str], dict[str, str]], data: Path, tmp_path: Path
) -> None:
    """Every state of pFLSynth equals that of one process; what a site keeps is in no byte that went over."""
    loop = across(small_raw(data), tmp_path)
    assert states(digests(tmp_path, "*.safetensors")) == here("pflsynth")
    wire = b"".join(part for _, request, answer in loop.seen for part in (request, answer))
    n_sought = 0
    for site in loop.outposts:
        (folder,) = (tmp_path / site).glob("small-*")
        for path in sorted((folder / "sites" / site / "store").rglob("state.safetensors")):
            for name, tensor in read_tensors(path).items():
                content = tensor.numpy().tobytes()
                if len(content) >= 32 and len(set(content)) > 8:
                    assert content not in wire, name
                    assert name.partition("/")[2].encode() + b'"' not in wire or "optimiser" in name, name
                    n_sought += 1
    assert n_sought > 100
    for secret in (str(tmp_path), str(data), "sub-01", "sub-02", "anat"):
        assert secret.encode() not in wire


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(9, marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    here: Callable[[str], dict[str, str]], data: Path, tmp_path: Path, after: int
) -> None:
    raw, n = small_raw(data), 0

    def stop(event: dict[str, Any]) -> None:
        nonlocal n
        n += event["event"] == "site"
        if n == after:
            raise Stop

    with pytest.raises(Stop):
        across(raw, tmp_path, stop)
    across(raw, tmp_path)
    assert states(digests(tmp_path, "*.safetensors")) == here("pflsynth")
    server = verify(tmp_path / "server" / "audit.jsonl")
    for site in raw["sites"]:
        findings, n_came = missing_from(verify(tmp_path / site / "audit.jsonl"), server, site)
        assert findings == []
        assert n_came > 4


# --- FedCRLD, on cubes --------------------------------------------------------------------------------


def cubes_across(raw: dict[str, Any], folder: Path, stop_after: int | None = None) -> None:
    """The rounds alone: crews whose data are in memory."""
    run, n = recipe.build(raw), 0
    agreed = run.agreed()

    def open_at(site: str) -> Any:
        @contextmanager
        def opened(asked: Run) -> Iterator[Crew]:
            assert asked.digest() == agreed.digest()
            with saving() as saver:
                yield assemble(agreed, {site: {"train": [], "validation": [0]}}, folder, saver)

        return opened

    def emit(event: dict[str, Any]) -> None:
        nonlocal n
        n += event["event"] == "site"
        if n == stop_after:
            raise Stop

    loop = Loop(
        {
            site: Outpost(site, OPEN_POLICY, Audit(folder / "logs" / site), open_run=open_at(site))
            for site in run.sites
        }
    )
    with saving() as saver:
        crew = assemble(agreed, {}, folder, saver)
        engine = Across(crew, loop, Audit(folder / "logs" / "server"))
        try:
            engine.join(max(crew.server_store().versions(), default=0))
            federate(crew, engine, emit)
            engine.finish(read_tensors(folder / "server" / "model.safetensors"))
        finally:
            engine.close()


@pytest.mark.parametrize("stop_after", [None, 4])
def test_fedcrld_leaves_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop_after: int | None
) -> None:
    monkeypatch.setitem(registry.TABLES["tasks"], "cubes", "cubes:Cubes")
    raw = cubes_raw(3, training={"rounds": 3})
    run = recipe.build(raw)
    with saving() as saver:
        cases = {site: {"train": [], "validation": [0]} for site in run.sites}
        crew = assemble(run, cases, tmp_path / "here", saver)
        federate(crew, Here(Here.Settings(threads=1), crew), lambda event: None)
    if stop_after:
        with pytest.raises(Stop):
            cubes_across(raw, tmp_path / "away", stop_after)
    cubes_across(raw, tmp_path / "away")
    away = digests(tmp_path / "away", "*.safetensors")
    assert away == digests(tmp_path / "here", "*.safetensors")
    assert len(away) == 3 * (2 * 2 + 1) + (2 + 1)  # two versions and a model; sites have outboxes
