"""What every algorithm owes, over the whole registry: a newcomer gets these for free."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from polysite.engines.here import Here
from polysite.federation.server import federate
from polysite.registry import TABLES
from toy import CrewMaker

# what an algorithm needs to run on the toy model, where its defaults are made for another one
SETTINGS: dict[str, dict[str, Any]] = {"pflsynth": {"shared": ["body.*"]}}
NAMES = sorted(TABLES["algorithms"])


def settings(name: str) -> dict[str, Any]:
    return {"name": name, **SETTINGS.get(name, {})}


def run(crew: Any, stop_after: int | None = None) -> None:
    """Run to the end, or raise KeyboardInterrupt once so many sites have worked."""
    done = 0

    def emit(event: dict[str, Any]) -> None:
        nonlocal done
        done += event["event"] == "site"
        if done == stop_after:
            raise KeyboardInterrupt

    federate(crew, Here(Here.Settings(threads=1), crew), emit)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("model.safetensors"))
    }


@pytest.mark.parametrize("name", NAMES)
def test_shared_and_private_partition_the_state(toy_crew: CrewMaker, name: str) -> None:
    crew = toy_crew(2, algorithm=settings(name))
    for site in crew.sites.values():
        names = set(site.slot().model.state_dict())
        assert set(site.plan.shared) | set(site.plan.private) == names
        assert not set(site.plan.shared) & set(site.plan.private)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(toy_crew: CrewMaker, name: str) -> None:
    folders = []
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        crew = toy_crew(2, folder=folder, seed=seed, task={"noisy": True}, algorithm=settings(name))
        run(crew)
        folders.append(crew.folder)
    one, same, other = map(digests, folders)
    assert len(one) == 3
    assert one == same
    assert one != other


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_stopped_and_resumed_equals_never_stopped(toy_crew: CrewMaker, name: str, stop: int) -> None:
    over: dict[str, Any] = {"task": {"noisy": True}, "algorithm": settings(name)}
    whole = toy_crew(2, folder="whole", **over)
    run(whole)
    broken = toy_crew(2, folder="broken", **over)
    if stop <= len(broken.sites) * broken.run.training.rounds:
        with pytest.raises(KeyboardInterrupt):
            run(broken, stop_after=stop)
        broken.saver.wait()
        run(toy_crew(2, folder="broken", **over))
        assert digests(broken.folder) == digests(whole.folder)


@pytest.mark.parametrize("name", NAMES)
def test_one_site_is_plain_training(toy_crew: CrewMaker, name: str) -> None:
    """Averaging one site changes nothing: the same bytes as training alone, whatever the algorithm."""
    crew, alone = (
        toy_crew(1, folder=folder, algorithm=chosen)
        for folder, chosen in (("a", settings(name)), ("b", {"name": "local"}))
    )
    run(crew)
    run(alone)
    for site in crew.run.sites:
        path = Path("sites", site, "model.safetensors")
        assert (crew.folder / path).read_bytes() == (alone.folder / path).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_private_tensors_are_in_no_message(toy_crew: CrewMaker, name: str) -> None:
    """Search the bytes of everything that leaves for the bytes of everything that must not."""
    crew = toy_crew(2, task={"size": 3}, algorithm=settings(name))
    outgoing: list[bytes] = []

    class Watched(Here):
        def visit(self, round_: int, news: Any, sites: Any) -> Any:
            for message in super().visit(round_, news, sites):
                outgoing.extend(tensor.numpy().tobytes() for tensor in message.tensors.values())
                yield message

    federate(crew, Watched(Watched.Settings(threads=1), crew), lambda event: None)
    for site in crew.sites.values():
        private = {
            name: tensor
            for name, tensor in site.final(3, crew_server(crew)).items()
            if name in site.plan.private
        }
        for key, tensor in private.items():
            if tensor.numel() > 1:
                assert not any(tensor.numpy().tobytes() in sent for sent in outgoing), key


def crew_server(crew: Any) -> dict[str, torch.Tensor]:
    state, _ = crew.server_store().load(3)
    return state


@pytest.mark.parametrize("name", NAMES)
def test_messages_do_not_alias_the_model(toy_crew: CrewMaker, name: str) -> None:
    """A message kept until the end of the round still holds what was sent."""
    crew = toy_crew(3, algorithm=settings(name))
    engine, news = Here(Here.Settings(threads=1), crew), crew.initial()
    kept = list(engine.visit(0, news, crew.sites))
    before = [{name: tensor.clone() for name, tensor in message.tensors.items()} for message in kept]
    state = crew.algorithm.aggregate(news, kept)
    list(engine.visit(1, state, crew.sites))
    for message, copy in zip(kept, before, strict=True):
        assert all(torch.equal(message.tensors[key], value) for key, value in copy.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_sites_changes_rounding_only(toy_crew: CrewMaker, name: str) -> None:
    crew = toy_crew(3, algorithm=settings(name))
    news = crew.initial()
    messages = list(Here(Here.Settings(threads=1), crew).visit(0, news, crew.sites))
    there, back = crew.algorithm.aggregate(news, messages), crew.algorithm.aggregate(news, messages[::-1])
    for key, tensor in there.items():
        torch.testing.assert_close(tensor, back[key], rtol=1e-5, atol=1e-6)
        assert tensor.dtype == news[key].dtype
