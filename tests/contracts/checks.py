"""What any federation owes, as plain functions that raise AssertionError: for tests, and for the mutants' test.

Each takes a maker of toy crews (the fixture ``toy_crew``) and the settings of an algorithm.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polysite.engines.here import Here
from polysite.federation import server
from polysite.federation.stages import exchange as stages
from polysite.federation.tensor_files import read_tensors
from toy import CrewMaker

Settings = Mapping[str, Any]
Check = Callable[[CrewMaker, Settings], None]

FEDAVG: Settings = {"name": "fedavg", "private": ["head.*"]}
NOISY: Settings = {"task": {"noisy": True}}
"""Samples that differ, so that it matters which ones a step sees."""
_folders = count()


def run(crew: Any, emit: Callable[[dict[str, Any]], None] = lambda event: None) -> None:
    """All rounds, in this process."""
    server.federate(crew, Here(Here.Settings(threads=1), crew), emit)


def fresh(toy_crew: CrewMaker, n_sites: int, algorithm: Settings, **over: Any) -> Any:
    """A crew in a folder of its own."""
    return toy_crew(n_sites, folder=f"check{next(_folders)}", algorithm=dict(algorithm), **over)


def final(crew: Any, site: str) -> dict[str, Tensor]:
    return read_tensors(crew.folder / "sites" / site / "model.safetensors")


def server_state(crew: Any) -> dict[str, Tensor]:
    return read_tensors(crew.folder / "server" / "model.safetensors")


def worked_out(crew: Any, n_sites: int) -> tuple[Any, list[Any]]:
    """Federated averaging of ``body`` with weights k+1, momentum SGD kept at the site, in float64 NumPy."""
    training = crew.run.training
    initial = {name: tensor.double().numpy() for name, tensor in crew.sites["site0"].slot().initial.items()}
    centres = [float((-2) ** k) for k in range(n_sites)]
    body, heads = initial["body.w"], [initial["head.w"]] * n_sites
    speed = [(np.zeros(3), np.zeros(2))] * n_sites
    for _ in range(training.rounds):
        sent = []
        for k, centre in enumerate(centres):
            w, h, (v_body, v_head) = body, heads[k], speed[k]
            for _ in range(training.steps_per_round):
                v_body, v_head = 0.5 * v_body + (w - centre), 0.5 * v_head + (h - centre)
                w, h = w - training.learning_rate * v_body, h - training.learning_rate * v_head
            heads[k], speed[k] = h, (v_body, v_head)
            sent.append(w)
        body = np.average(sent, axis=0, weights=np.arange(1, n_sites + 1))
    return body, heads


def equals_numpy(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """Three rounds of federated averaging at three unequal sites, worked out independently."""
    crew = fresh(toy_crew, 3, algorithm)
    run(crew)
    body, heads = worked_out(crew, 3)
    for k in range(3):
        model = final(crew, f"site{k}")
        np.testing.assert_allclose(model["body.w"].numpy(), body, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model["head.w"].numpy(), heads[k], rtol=1e-5, atol=1e-6)


def arrives(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """In every round every site starts from exactly what the server holds, in the first round too."""
    crew = fresh(toy_crew, 3, algorithm, training={"common_start": True})
    news: list[Mapping[str, Tensor]] = []
    engine = Here(Here.Settings(threads=1), crew)
    visit = engine.visit

    def noted(round_: int, state: Mapping[str, Tensor], sites: Any) -> Any:
        news.append({name: tensor.clone() for name, tensor in state.items()})
        return visit(round_, state, sites)

    engine.visit = noted  # type: ignore[method-assign]
    local = crew.algorithm.local
    starts: list[dict[str, Tensor]] = []

    def watched(site: Any, model: Any, *rest: Any) -> Any:
        starts.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return local(site, model, *rest)

    crew.algorithm.local = watched
    # the sites have a state of their own before anything arrives
    for index, site in enumerate(crew.sites.values()):
        own = {name: tensor + index + 1 for name, tensor in site.slot().initial.items()}
        site.own_start = None
        site.slot().initial = own
    crew.initial = lambda: {
        name: torch.zeros_like(tensor)
        for name, tensor in crew.sites["site0"].slot().initial.items()
        if name in crew.sites["site0"].plan.shared
    }
    server.federate(crew, engine, lambda event: None)
    assert len(starts) == 3 * len(news)
    for number, start in enumerate(starts):
        for name in crew.sites["site0"].plan.shared:
            assert torch.equal(start[name], news[number // 3][name]), f"{name} at visit {number}"


def everything(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """All that is not declared private travels and comes back to every site, buffers included."""
    crew = fresh(toy_crew, 2, algorithm)
    assert set(crew.sites["site0"].plan.private) == {"head.w", "head.steps"}
    run(crew)
    plan = crew.sites["site0"].plan
    held = server_state(crew)
    assert set(held) == set(plan.shared)
    for site in crew.run.sites:
        model = final(crew, site)
        assert set(model) == set(plan.shared) | set(plan.private)
        assert all(torch.equal(model[name], held[name]) for name in plan.shared)
    steps = crew.run.training.rounds * crew.run.training.steps_per_round
    for name in plan.shared:
        if name.endswith(".steps"):
            assert held[name].item() == steps, f"{name} is {held[name].item()} after {steps} steps everywhere"


def dtypes(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """What the server holds has the types of the model, in every round."""
    crew = fresh(toy_crew, 2, algorithm)
    news = crew.initial()
    messages = Here(Here.Settings(threads=1), crew).visit(0, news, crew.sites)
    state = crew.algorithm.aggregate(news, messages)
    for name, tensor in state.items():
        assert tensor.dtype == crew.sites["site0"].plan.shared[name].dtype, f"{name} is {tensor.dtype}"


def own_parts(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """A site's final model is what its method evaluates, from that site's own last version."""
    crew = fresh(toy_crew, 3, algorithm)
    run(crew)
    for name in crew.run.sites:
        site = crew.sites.get(name) or crew.sites["pooled"]
        kept, _ = site.store.load(crew.run.training.rounds, prefix="private/")
        memory, _ = site.store.load(crew.run.training.rounds, prefix="memory/")
        assert set(kept) == set(site.plan.private)
        meant = crew.algorithm.evaluated(memory, {**kept, **server_state(crew)})
        model = final(crew, name)
        assert set(model) == set(site.plan.shared) | set(site.plan.private)
        assert all(torch.equal(tensor, meant[key]) for key, tensor in model.items()), name


def validated_is_evaluated(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """What a site validates in a round is the model that it would be left with if the run ended there."""
    crew = fresh(toy_crew, 2, algorithm)
    events: list[dict[str, Any]] = []
    bodies: list[Tensor] = []
    engine = Here(Here.Settings(threads=1), crew)
    visit = engine.visit

    def noted(round_: int, state: Mapping[str, Tensor], sites: Any) -> Any:
        crew.saver.wait()
        for site in crew.sites.values():
            whole = site.final(round_, state) if round_ else {**site.slot().initial, **state}
            bodies.append(whole["body.w"].clone())
        return visit(round_, state, sites)

    engine.visit = noted  # type: ignore[method-assign]
    server.federate(crew, engine, events.append)
    visits = [event for event in events if event["event"] == "site"]
    assert len(visits) == len(bodies)
    for event, body in zip(visits, bodies, strict=True):
        centre = float((-2) ** int(event["site"][-1]))
        loss = 0.5 * float((body - centre).square().sum())
        np.testing.assert_allclose(event["validation"]["loss"], loss, rtol=1e-5)


def models_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("model.safetensors"))}


def resume(
    toy_crew: CrewMaker,
    algorithm: Settings = FEDAVG,
    stops: tuple[int, ...] = (1, 2, 3, 4, 5),
    over: Settings = NOISY,
) -> None:
    """Stopped after any site's work and resumed equals never stopped."""
    whole = fresh(toy_crew, 2, algorithm, **over)
    run(whole)
    n_visits = len(whole.sites) * whole.run.training.rounds
    for stop in stops:
        if stop > n_visits:
            continue
        done = 0
        name = f"stopped{next(_folders)}"

        def emit(event: dict[str, Any], stop: int = stop) -> None:
            nonlocal done
            done += event["event"] == "site"
            if done == stop:
                raise KeyboardInterrupt

        broken = toy_crew(2, folder=name, algorithm=dict(algorithm), **over)
        try:
            run(broken, emit)
        except KeyboardInterrupt:
            broken.saver.wait()
        else:
            raise AssertionError(f"was not stopped after {stop} visits")
        run(toy_crew(2, folder=name, algorithm=dict(algorithm), **over))
        assert models_of(broken.folder) == models_of(whole.folder), f"stopped after {stop} visits"


def by_name(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """The order of tensors in a message and in the server's state does not matter."""
    made = []
    for turned in (False, True):
        # both vectors are of one shape and travel
        crew = fresh(toy_crew, 2, {**algorithm, "private": []}, task={"size": 2})
        engine = Here(Here.Settings(threads=1), crew)
        if turned:
            engine.visit = _turned(engine.visit)  # type: ignore[method-assign]
        server.federate(crew, engine, lambda event: None)
        made.append(models_of(crew.folder))
    assert made[0] == made[1]


def _turned(visit: Any) -> Any:
    def backwards(round_: int, news: Mapping[str, Tensor], sites: Any) -> Any:
        for message in visit(round_, dict(reversed(list(news.items()))), sites):
            yield replace(message, tensors=dict(reversed(list(message.tensors.items()))))

    return backwards


def lasting(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """Whoever holds a state of the server or a message sees no other values later: both may still be on their way."""
    crew = fresh(toy_crew, 2, algorithm)
    engine, seen = Here(Here.Settings(threads=1), crew), list[tuple[Tensor, Tensor]]()
    visit = engine.visit

    def held(tensors: Mapping[str, Tensor]) -> None:
        seen.extend((tensor, tensor.clone()) for tensor in tensors.values())

    def watching(round_: int, news: Mapping[str, Tensor], sites: Any) -> Any:
        held(news)
        for message in visit(round_, news, sites):
            held(message.tensors)
            yield message

    engine.visit = watching  # type: ignore[method-assign]
    server.federate(crew, engine, lambda event: None)
    assert all(torch.equal(tensor, before) for tensor, before in seen)


def partition(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """Shared and private names are the state's, and no name is both."""
    for site in fresh(toy_crew, 2, algorithm).sites.values():
        assert set(site.plan.shared) | set(site.plan.private) == set(site.slot().model.state_dict())
        assert not set(site.plan.shared) & set(site.plan.private)


def neutral(toy_crew: CrewMaker, algorithm: Settings) -> None:
    """With its extras at 0 a method is federated averaging of what it shares, bit for bit."""
    crew = fresh(toy_crew, 3, algorithm, **NOISY)
    run(crew)
    plain = {
        "name": "fedavg",
        "private": list(crew.sites["site0"].plan.private),
        "weights": crew.algorithm.settings.weights,
    }
    average = fresh(toy_crew, 3, plain, **NOISY)
    run(average)
    made, meant = server_state(crew), server_state(average)
    assert set(made) == set(meant)
    assert all(torch.equal(tensor, meant[name]) for name, tensor in made.items())
    for site in crew.run.sites:  # also what stays
        kept, other = (
            c.sites[site].store.load(c.run.training.rounds, prefix="private/")[0] for c in (crew, average)
        )
        assert all(torch.equal(tensor, other[name]) for name, tensor in kept.items()), site


DITTO_ALONE: Settings = {"name": "ditto", "lam": 0}


def alone(toy_crew: CrewMaker, algorithm: Settings = DITTO_ALONE) -> None:
    """A personal model that nothing pulls is what the site learns alone, bit for bit."""
    crew, local = (fresh(toy_crew, 3, chosen, **NOISY) for chosen in (algorithm, {"name": "local"}))
    run(crew)
    run(local)
    for site in crew.run.sites:
        made, meant = final(crew, site), final(local, site)
        assert all(torch.equal(tensor, meant[name]) for name, tensor in made.items()), site


HISTORY: Settings = {"name": "fedcrld", "shared": ["body.*"], "momentum": 0.75}


def history(toy_crew: CrewMaker, algorithm: Settings = HISTORY) -> None:
    """After k steps of all rounds a site's teacher is ``m^k θ_0 + (1 - m) Σ m^(k - i) θ_i`` of its own steps."""
    crew = fresh(toy_crew, 2, algorithm)
    fit, now = crew.task.fit, [""]
    seen: dict[str, list[Mapping[str, Tensor]]] = {site: [] for site in crew.sites}

    def watched(model: Any, data: Any, *rest: Any, after_step: Any = None, **how: Any) -> Any:
        def noted(model: Any) -> None:
            seen[now[0]].append({name: p.detach().double() for name, p in model.named_parameters()})
            after_step(model)

        return fit(model, data, *rest, after_step=noted, **how)

    crew.task.fit = watched
    news = crew.initial()
    starts = {name: tensor.double() for name, tensor in crew.sites["site0"].slot().initial.items()}
    for round_ in range(3):
        messages = []
        for now[0], site in crew.sites.items():
            messages.append(site.work(round_, news))
        news = crew.algorithm.aggregate(news, messages)
    crew.saver.wait()
    m = algorithm["momentum"]
    for site, steps in seen.items():
        assert len(steps) == 3 * crew.run.training.steps_per_round
        teacher, _ = crew.sites[site].store.load(3, prefix="memory/teacher/")
        for name in ("body.w", "head.w"):
            meant = m ** len(steps) * starts[name] + (1 - m) * sum(
                m ** (len(steps) - i) * step[name] for i, step in enumerate(steps, start=1)
            )
            np.testing.assert_allclose(teacher[name].numpy(), meant.numpy(), rtol=1e-5, atol=1e-6)


FEDBN: Settings = {"name": "fedbn", "private": []}


def norms_stay(toy_crew: CrewMaker, algorithm: Settings = FEDBN) -> None:
    """The normalisation layer stays, which is not called so; all else travels, whatever its name."""
    plan = fresh(toy_crew, 2, algorithm).sites["site0"].plan
    assert set(plan.private) == {"calm.weight", "calm.bias"}
    assert "subnet.w" in plan.shared


def sends_as_it_is(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """Without an exchange a message holds what the method sends, bit for bit; feedback has nothing to feed."""
    crew = fresh(toy_crew, 2, algorithm, exchange={"values": "float32", "error_feedback": True})
    local, meant = crew.algorithm.local, []

    def noted(*how: Any) -> Any:
        sent = local(*how)
        meant.append({name: tensor.detach().clone() for name, tensor in sent.items()})
        return sent

    crew.algorithm.local = noted
    news = crew.initial()
    for message in Here(Here.Settings(threads=1), crew).visit(0, news, crew.sites):
        sent = meant.pop(0)
        assert set(message.tensors) == set(sent)
        assert all(torch.equal(tensor, sent[name]) for name, tensor in message.tensors.items())
        crew.saver.wait()
        kept, _ = crew.sites[message.site].store.load(1)
        assert not any(name.startswith("residual/") for name in kept)


def _visits(crew: Any, n_rounds: int) -> tuple[list[Tensor], list[Tensor]]:
    """What the method of one site changes in each round, and what the server receives of it: all floats in a row."""
    local = crew.algorithm.local
    changes: list[Tensor] = []
    received: list[Tensor] = []

    def noted(place: Any, model: Any, fit: Any, news: Any) -> Any:
        sent = local(place, model, fit, news)
        changes.append(change(sent, news))
        return sent

    def change(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensor:
        names = sorted(name for name, tensor in after.items() if tensor.is_floating_point())
        return torch.cat([after[name].detach().double() - before[name].double() for name in names])

    crew.algorithm.local = noted
    news = crew.initial()
    engine = Here(Here.Settings(threads=1), crew)
    for round_ in range(n_rounds):
        (message,) = engine.visit(round_, news, crew.sites)
        tensors = stages.unpack(crew.run.exchange, message.tensors, news)
        received.append(change(tensors, news))
        news = {**news, **tensors}
    crew.saver.wait()
    return changes, received


def sums_up(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """With feedback all rounds together are off by one rounding; without it they are off by more."""
    off = {}
    for feedback in (True, False):
        exchange = {"values": "int8", "error_feedback": feedback}
        training = {"rounds": 40, "learning_rate": 0.01, "flat_rounds": 40}
        crew = fresh(toy_crew, 1, algorithm, exchange=exchange, training=training)
        changes, received = _visits(crew, 40)
        off[feedback] = float((torch.stack(changes).sum(0) - torch.stack(received).sum(0)).abs().max())
        last = 1.02 * float(changes[-1].abs().max()) / 127
    assert off[True] <= last, f"{off[True]} with feedback, where {last} is one step"
    assert off[False] > 2 * last


def rounds_to_nearest(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """One round's int8 is off by at most half a step, a tensor's largest value / 127."""
    crew = fresh(toy_crew, 1, algorithm, exchange={"values": "int8"}, task={"size": 50, "noisy": True})
    (change, *_), (received, *_) = _visits(crew, 1)
    assert float((change - received).abs().max()) <= 0.51 * float(change.abs().max()) / 127


def clips(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """No round's change is longer than the bound, and what is left at the site is what rounding lost alone."""
    for values in ("float32", "bfloat16", "int8"):
        crew = fresh(toy_crew, 1, algorithm, exchange={"values": values, "clip": 0.5})
        changes, received = _visits(crew, 3)
        assert all(float(change.norm()) > 0.5 for change in changes[:2])
        assert all(float(change.norm()) <= 0.5 * 1.01 for change in received)
        left, _ = crew.sites["site0"].store.load(3, prefix="residual/")
        assert set(left) == (
            set() if values == "float32" else {"body.w", "subnet.w", "calm.weight", "calm.bias"}
        )
        assert all(float(tensor.abs().max()) <= 0.5 / 127 for tensor in left.values())


ROUNDING: Settings = {"exchange": {"values": "int8", "clip": 0.5}}


def resume_rounding(toy_crew: CrewMaker, algorithm: Settings = FEDAVG) -> None:
    """As `resume`, with what rounding lost in the site's store."""
    resume(toy_crew, algorithm, over={**NOISY, **ROUNDING})
