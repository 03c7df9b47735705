"""A run that goes on: what it takes from disk, what it trusts, and what it refuses."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from polysite.engines.here import Here
from polysite.errors import CheckpointError
from polysite.federation.server import federate
from toy import CrewMaker


def run(crew: Any, stop_after: int | None = None) -> None:
    """Run to the end, or stop once so many sites have worked."""
    done = 0

    def emit(event: dict[str, Any]) -> None:
        nonlocal done
        done += event["event"] == "site"
        if done == stop_after:
            raise KeyboardInterrupt

    try:
        federate(crew, Here(Here.Settings(threads=1), crew), emit)
    except KeyboardInterrupt:
        crew.saver.wait()


def models(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("model.safetensors"))}


NOISY = {"task": {"noisy": True}}


@pytest.mark.parametrize("stop", [3, 4, 5, 6])
def test_the_servers_last_version_may_be_removed(toy_crew: CrewMaker, stop: int) -> None:
    """The remedy that a damaged version is met with: the run goes back a round and ends the same."""
    whole, broken = toy_crew(2, folder="whole", **NOISY), toy_crew(2, folder="broken", **NOISY)
    run(whole)
    run(broken, stop_after=stop)
    store = broken.server_store()
    shutil.rmtree(store.path(store.versions()[-1]))
    run(toy_crew(2, folder="broken", **NOISY))
    assert models(broken.folder) == models(whole.folder)


@pytest.mark.parametrize("stop", [3, 4, 5])
def test_a_sites_last_version_may_be_removed(toy_crew: CrewMaker, stop: int) -> None:
    whole, broken = toy_crew(2, folder="whole", **NOISY), toy_crew(2, folder="broken", **NOISY)
    run(whole)
    run(broken, stop_after=stop)
    store = broken.sites["site0"].store
    if store.versions()[-1] == broken.server_store().versions()[-1] + 1:
        shutil.rmtree(store.path(store.versions()[-1]))
    run(toy_crew(2, folder="broken", **NOISY))
    assert models(broken.folder) == models(whole.folder)


@pytest.mark.parametrize("lost", ["server", "sites/site0/store"])
def test_parts_that_do_not_belong_together_are_refused(toy_crew: CrewMaker, lost: str) -> None:
    crew = toy_crew(2)
    run(crew, stop_after=6)
    shutil.rmtree(crew.folder / lost)
    with pytest.raises(
        CheckpointError, match=r"sites/site0/store: holds .* but the server is at round-00000"
    ):
        run(toy_crew(2))
    assert crew.sites["site1"].store.versions() == [2, 3]


@pytest.mark.parametrize("altered", ["state.safetensors", "outbox.safetensors"])
@pytest.mark.parametrize(("stop", "site"), [(2, "site0"), (3, "site1")])
def test_a_site_that_was_altered_is_refused_when_the_run_goes_on(
    toy_crew: CrewMaker, stop: int, site: str, altered: str
) -> None:
    """Whether its message is taken again (first) or its round is done from it (second)."""
    crew = toy_crew(2)
    run(crew, stop_after=stop)
    for path in (crew.folder / "sites" / site).rglob(altered):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{site}.*cut short or altered"):
        run(toy_crew(2))


def test_going_on_after_the_end_writes_the_same_models_again(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2, **NOISY)
    run(crew)
    before = models(crew.folder)
    for path in crew.folder.rglob("model.safetensors"):
        path.unlink()
    run(toy_crew(2, **NOISY))
    assert models(crew.folder) == before


def test_a_site_that_finished_its_round_is_not_trained_again(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2)
    run(crew, stop_after=3)
    again = toy_crew(2)
    trained: list[str] = []
    for site in again.sites.values():
        fit = site.task.fit
        site.task.fit = lambda model, data, *a, fit=fit, **k: (  # type: ignore[method-assign]
            trained.append(data.n_samples),
            fit(model, data, *a, **k),
        )[1]
        break  # both have the same task
    run(again)
    assert trained == [2, 1, 2]  # the second site's second round, then both sites' third


@pytest.mark.parametrize("algorithm", ["fedavg", "ditto"])
def test_a_state_from_memory_is_the_one_from_disk(toy_crew: CrewMaker, algorithm: str) -> None:
    over = {**NOISY, "algorithm": {"name": algorithm}}
    memory, disk = toy_crew(3, folder="memory", **over), toy_crew(3, folder="disk", **over)
    disk.saver._room = 0
    run(memory)
    run(disk)
    assert memory.saver._own
    assert not disk.saver._own
    assert models(memory.folder) == models(disk.folder)
