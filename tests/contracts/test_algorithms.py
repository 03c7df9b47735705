"""What every algorithm owes, over the whole registry: a newcomer gets these for free."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts import checks
from polysite.engines.here import Here
from polysite.federation.server import federate
from polysite.registry import TABLES
from toy import CrewMaker

# what an algorithm needs to run on the toy model, where its defaults are made for another one
SETTINGS: dict[str, dict[str, Any]] = {
    "pflsynth": {"shared": ["body.*"]},
    "fedcrld": {"shared": ["body.*"]},
}
# settings that take away what a method adds to federated averaging
NEUTRAL: dict[str, dict[str, Any]] = {
    "fedprox": {"mu": 0.0},
    "ditto": {"lam": 0.0},
    "moon": {"mu": 0.0},
    "fedcrld": {"output_weight": 0.0, "feature_weight": 0.0, "contrast_weight": 0.0},
}
# methods whose sites predict with another model than what the server holds on top of the site's own part
PERSONAL = {"ditto"}
NAMES = sorted(TABLES["algorithms"])


def settings(name: str) -> dict[str, Any]:
    return {"name": name, **SETTINGS.get(name, {})}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("model.safetensors"))
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "check", [checks.partition, checks.dtypes, checks.own_parts, checks.by_name, checks.resume]
)
def test_keeps_the_contract(toy_crew: CrewMaker, check: checks.Check, name: str) -> None:
    check(toy_crew, settings(name))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"local", "central"}))
def test_every_site_starts_from_what_the_server_holds(toy_crew: CrewMaker, name: str) -> None:
    checks.arrives(toy_crew, settings(name))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"local", "central"} - PERSONAL))
def test_what_is_validated_is_what_is_evaluated(toy_crew: CrewMaker, name: str) -> None:
    checks.validated_is_evaluated(toy_crew, settings(name))


@pytest.mark.parametrize("name", NEUTRAL)
def test_without_what_it_adds_a_method_is_plain_averaging(toy_crew: CrewMaker, name: str) -> None:
    """Bit for bit, of all that the method shares."""
    shares = {"private": ["head.*"]}
    crew = toy_crew(3, folder="a", algorithm={**settings(name), **shares, **NEUTRAL[name]})
    plain = toy_crew(3, folder="b", algorithm={"name": "fedavg", **shares})
    checks.run(crew)
    checks.run(plain)
    one, other = checks.server_state(crew), checks.server_state(plain)
    assert set(one) == set(other)
    for key, tensor in one.items():
        assert tensor.numpy().tobytes() == other[key].numpy().tobytes(), key


@pytest.mark.parametrize("name", NEUTRAL)
def test_what_a_method_adds_changes_the_models(toy_crew: CrewMaker, name: str) -> None:
    crew = toy_crew(3, folder="a", algorithm=settings(name))
    plain = toy_crew(3, folder="b", algorithm={**settings(name), **NEUTRAL[name]})
    checks.run(crew)
    checks.run(plain)
    site = "site2"
    one, other = checks.final(crew, site), checks.final(plain, site)
    assert any(not torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_federated_averaging_moves_everything_and_equals_numpy(toy_crew: CrewMaker) -> None:
    checks.everything(toy_crew)
    checks.equals_numpy(toy_crew)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(toy_crew: CrewMaker, name: str) -> None:
    folders = []
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        crew = toy_crew(2, folder=folder, seed=seed, task={"noisy": True}, algorithm=settings(name))
        checks.run(crew)
        folders.append(crew.folder)
    one, same, other = map(digests, folders)
    assert len(one) == 3
    assert one == same
    assert one != other


@pytest.mark.parametrize("name", NAMES)
def test_one_site_is_plain_training(toy_crew: CrewMaker, name: str) -> None:
    """Averaging one site changes nothing: the same bytes as training alone, whatever the algorithm."""
    crew, alone = (
        toy_crew(1, folder=folder, algorithm=chosen)
        for folder, chosen in (
            ("a", {**settings(name), **NEUTRAL.get(name, {})}),
            ("b", {"name": "local"}),
        )
    )
    checks.run(crew)
    checks.run(alone)
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
