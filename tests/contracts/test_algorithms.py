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
    "ditto": {"private": ["head.*"]},
    "moon": {"private": ["head.*"]},
    "fedcrld": {"shared": ["body.*"]},
}
ALSO: dict[str, dict[str, Any]] = {
    "fedcrld with tokens": {
        "name": "fedcrld",
        **SETTINGS["fedcrld"],
        "contrast": "infonce",
        "n_tokens": 2,
        "queue_size": 3,
    },
    "fedcrld by its bank": {
        "name": "fedcrld",
        **SETTINGS["fedcrld"],
        "predict_with": "teacher",
        "bank_size": 2,
    },
    "fedcrld by its teacher": {
        "name": "fedcrld",
        **SETTINGS["fedcrld"],
        "predict_with": "teacher",
    },
}
NEUTRAL: dict[str, dict[str, Any]] = {
    "fedprox": {"mu": 0},
    "moon": {"mu": 0},
    "ditto": {"lam": 0},
    "fedcrld": {"contrast_weight": 0, "output_weight": 0, "feature_weight": 0},
}
"""What makes a method federated averaging of what it shares."""
NAMES = [*sorted(TABLES["algorithms"]), *ALSO]
SHARING = sorted(set(NAMES) - {"local", "central"})


def settings(name: str) -> dict[str, Any]:
    return ALSO.get(name) or {"name": name, **SETTINGS.get(name, {})}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("model.safetensors"))
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "check",
    [checks.partition, checks.dtypes, checks.own_parts, checks.by_name, checks.lasting, checks.resume],
)
def test_keeps_the_contract(toy_crew: CrewMaker, check: checks.Check, name: str) -> None:
    check(toy_crew, settings(name))


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("check", [checks.arrives, checks.validated_is_evaluated])
def test_keeps_the_contract_of_those_that_share(toy_crew: CrewMaker, check: checks.Check, name: str) -> None:
    check(toy_crew, settings(name))


def test_federated_averaging_moves_everything_and_equals_numpy(toy_crew: CrewMaker) -> None:
    checks.everything(toy_crew)
    checks.equals_numpy(toy_crew)


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_method_without_its_extras_is_federated_averaging(toy_crew: CrewMaker, name: str) -> None:
    checks.neutral(toy_crew, {**settings(name), **NEUTRAL[name]})


def test_the_global_model_of_ditto_is_that_of_federated_averaging_whatever_pulls(toy_crew: CrewMaker) -> None:
    checks.neutral(toy_crew, {"name": "ditto", "lam": 3.0})


@pytest.mark.parametrize("name", sorted({*NEUTRAL, *ALSO}))
def test_a_method_with_its_extras_is_another(toy_crew: CrewMaker, name: str) -> None:
    """The test above would otherwise pass where the extras do nothing at all."""
    made = []
    for algorithm in (settings(name), {**settings(name), **NEUTRAL[name.partition(" ")[0]]}):
        crew = checks.fresh(toy_crew, 2, algorithm)
        checks.run(crew)
        made.append(checks.models_of(crew.folder)["sites/site0/model.safetensors"])
    assert made[0] != made[1]


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


@pytest.mark.parametrize(
    "chosen",
    [{**settings(name), **NEUTRAL.get(name, {})} for name in sorted(TABLES["algorithms"])],
    ids=lambda chosen: chosen["name"],
)
def test_one_site_is_plain_training(toy_crew: CrewMaker, chosen: dict[str, Any]) -> None:
    """Averaging one site changes nothing: the same bytes as training alone, whatever the algorithm."""
    crew, alone = (
        toy_crew(1, folder=folder, algorithm=algorithm)
        for folder, algorithm in (("a", chosen), ("b", {"name": "local"}))
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
        kept, _ = site.store.load(3)
        # models as they were sent: moon's last one, and the bank's
        sent = {
            f"memory/{what}/{key}" for what in ("previous", "bank/0", "bank/1") for key in site.plan.shared
        }
        for key, tensor in kept.items():
            if tensor.numel() > 1 and key not in sent:
                assert not any(tensor.numpy().tobytes() in bytes_ for bytes_ in outgoing), key


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
