"""What every algorithm owes where changes are clipped and rounded, and what the exchange owes every algorithm."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from contracts import checks
from contracts.test_algorithms import NAMES, SHARING, settings
from polysite import recipe
from polysite.engines.here import Here
from polysite.federation.server import federate
from toy import CrewMaker

EXCHANGES = [
    pytest.param({"values": "int8", "clip": 0.5}, id="int8 and clipped"),
    pytest.param({"values": "bfloat16"}, id="bfloat16", marks=pytest.mark.slow),
]


@pytest.fixture(params=EXCHANGES)
def rounding_crew(toy_crew: CrewMaker, request: pytest.FixtureRequest) -> CrewMaker:
    """Toy crews whose run has an exchange."""

    def make(n_sites: int = 2, folder: str = "run", **over: Any) -> Any:
        return toy_crew(n_sites, folder, **recipe.merge({"exchange": request.param}, over))

    return make


@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_contract_with_an_exchange(rounding_crew: CrewMaker, name: str) -> None:
    for check in (checks.partition, checks.own_parts, checks.by_name, checks.lasting):
        check(rounding_crew, settings(name))
    checks.resume(rounding_crew, settings(name), stops=(2, 3))


@pytest.mark.parametrize("name", SHARING)
def test_every_site_starts_from_what_the_server_holds(rounding_crew: CrewMaker, name: str) -> None:
    checks.arrives(rounding_crew, settings(name))
    checks.validated_is_evaluated(rounding_crew, settings(name))


@pytest.mark.parametrize("name", NAMES)
def test_without_an_exchange_the_message_is_what_the_method_sends(toy_crew: CrewMaker, name: str) -> None:
    checks.sends_as_it_is(toy_crew, settings(name))


@pytest.mark.parametrize("name", ["local", "central"])
def test_where_nothing_is_shared_an_exchange_changes_nothing(toy_crew: CrewMaker, name: str) -> None:
    plain, rounding = (
        checks.fresh(toy_crew, 2, settings(name), **checks.NOISY, **over)
        for over in ({}, {"exchange": {"values": "int8", "clip": 0.5}})
    )
    checks.run(plain)
    checks.run(rounding)
    assert checks.models_of(plain.folder) == checks.models_of(rounding.folder)


@pytest.mark.parametrize("name", SHARING)
def test_neither_what_is_private_nor_what_was_lost_is_in_a_message(
    rounding_crew: CrewMaker, name: str
) -> None:
    """Search the bytes of all that leaves for those of all that is kept, residuals included."""
    crew = rounding_crew(2, algorithm=settings(name))
    outgoing: list[bytes] = []

    class Watched(Here):
        def visit(self, round_: int, news: Any, sites: Any) -> Any:
            for message in super().visit(round_, news, sites):
                outgoing.extend(
                    tensor.numpy().tobytes()
                    if tensor.dtype != torch.bfloat16
                    else tensor.view(torch.int16).numpy().tobytes()
                    for tensor in message.tensors.values()
                )
                yield message

    federate(crew, Watched(Watched.Settings(threads=1), crew), lambda event: None)
    for site in crew.sites.values():
        kept, _ = site.store.load(crew.run.training.rounds)
        floats = {key for key, tensor in site.plan.shared.items() if tensor.is_floating_point()}
        assert {key.removeprefix("residual/") for key in kept if key.startswith("residual/")} == floats
        for key, tensor in kept.items():
            if tensor.numel() > 1 and bool(tensor.any()):
                assert not any(tensor.numpy().tobytes() in bytes_ for bytes_ in outgoing), key


@pytest.mark.parametrize(
    "check", [checks.sums_up, checks.rounds_to_nearest, checks.clips], ids=lambda c: c.__name__
)
def test_the_exchange_keeps_its_word(toy_crew: CrewMaker, check: checks.Check) -> None:
    check(toy_crew, checks.FEDAVG)


def test_a_message_is_nobodys_memory(rounding_crew: CrewMaker) -> None:
    """A message kept until the next round still holds what was sent."""
    crew = rounding_crew(3)
    engine, news = Here(Here.Settings(threads=1), crew), crew.initial()
    kept = list(engine.visit(0, news, crew.sites))
    before = [replace(m, tensors={name: tensor.clone() for name, tensor in m.tensors.items()}) for m in kept]
    list(engine.visit(1, news, crew.sites))
    for message, copy in zip(kept, before, strict=True):
        assert all(torch.equal(message.tensors[key], value) for key, value in copy.tensors.items())


def test_the_bytes_told_are_those_that_travel(rounding_crew: CrewMaker) -> None:
    crew = rounding_crew(2)
    events: list[dict[str, Any]] = []
    checks.run(crew, events.append)
    plan = crew.plans["site0"]
    for event in events:
        if event["event"] == "site":
            assert (event["bytes_out"], event["bytes_in"]) == (plan.bytes_up, plan.bytes_down)
    assert plan.bytes_up < plan.bytes_down
