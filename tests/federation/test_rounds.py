"""Rounds over the toy task, worked out in NumPy."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from contracts.checks import worked_out
from polysite.algorithms.algorithm import Algorithm, Message
from polysite.engines.here import Here
from polysite.errors import DataError, PolysiteError
from polysite.federation.server import federate
from polysite.federation.tensor_files import read_tensors
from toy import CrewMaker, Toy


def run(crew: Any, **settings: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    federate(crew, Here(Here.Settings(threads=1), crew), events.append)
    return events


def final(crew: Any, site: str) -> dict[str, torch.Tensor]:
    return read_tensors(crew.folder / "sites" / site / "model.safetensors")


@pytest.mark.parametrize("n_sites", [1, 2, 3])
def test_equals_the_rounds_worked_out_in_numpy(toy_crew: CrewMaker, n_sites: int) -> None:
    crew = toy_crew(n_sites)
    run(crew)
    body, heads = worked_out(crew, n_sites)
    for k in range(n_sites):
        model = final(crew, f"site{k}")
        np.testing.assert_allclose(model["body.w"].numpy(), body, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model["head.w"].numpy(), heads[k], rtol=1e-5, atol=1e-6)


def test_every_site_starts_from_exactly_what_the_server_holds(toy_crew: CrewMaker) -> None:
    seen: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    class Watching(Algorithm):
        def local(self, site: Any, model: Any, fit: Any, news: Any) -> Any:
            seen.append((site.name, model.body.w.detach().clone(), news["body.w"].clone()))
            return super().local(site, model, fit, news)

    crew = toy_crew(3)
    crew.algorithm = Watching(crew.algorithm.settings)
    for site in crew.sites.values():
        site.algorithm = crew.algorithm
    run(crew)
    assert len(seen) == 9
    for round_ in range(3):
        arrived = [body for _, body, _ in seen[3 * round_ : 3 * round_ + 3]]
        assert all(torch.equal(body, news) for _, body, news in seen[3 * round_ : 3 * round_ + 3])
        assert torch.equal(arrived[0], arrived[1])
        assert torch.equal(arrived[1], arrived[2])


def test_integer_buffers_travel_and_stay_integers(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2)
    run(crew)
    steps = final(crew, "site0")["body.steps"]
    assert steps.dtype == torch.int64
    assert steps.item() == crew.run.training.rounds * crew.run.training.steps_per_round


def test_the_last_model_of_a_site_is_its_own_part_and_the_servers(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2)
    run(crew)
    server = read_tensors(crew.folder / "server" / "model.safetensors")
    assert set(server) == {"body.w", "body.steps"}
    one, two = final(crew, "site0"), final(crew, "site1")
    assert torch.equal(one["body.w"], server["body.w"])
    assert torch.equal(two["body.w"], server["body.w"])
    assert not torch.equal(one["head.w"], two["head.w"])


def test_local_training_shares_nothing_and_equals_one_site_alone(toy_crew: CrewMaker) -> None:
    both = toy_crew(2, folder="both", algorithm={"name": "local"})
    run(both)
    assert read_tensors(both.folder / "server" / "model.safetensors") == {}
    alone = toy_crew(1, folder="alone")
    run(alone)
    for name, tensor in final(alone, "site0").items():
        assert torch.equal(tensor, final(both, "site0")[name]), name


def test_central_training_gives_every_site_the_same_model(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2, algorithm={"name": "central"})
    events = run(crew)
    assert {event["site"] for event in events if event["event"] == "site"} == {"pooled"}
    assert all(
        torch.equal(final(crew, "site0")[name], tensor) for name, tensor in final(crew, "site1").items()
    )


def test_equal_weights_are_a_setting(toy_crew: CrewMaker) -> None:
    samples, equal = toy_crew(2, folder="a"), toy_crew(2, folder="b", algorithm={"weights": "equal"})
    run(samples)
    run(equal)
    assert not torch.equal(final(samples, "site0")["body.w"], final(equal, "site0")["body.w"])


def test_without_a_common_start_the_first_average_mixes_unrelated_models(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2, training={"common_start": False, "rounds": 1})
    starts = [site.own_start()["body.w"] for site in crew.sites.values()]
    assert not torch.equal(*starts)
    run(crew)
    _, together = toy_crew(2, folder="common").sites.values()
    assert together.own_start is None


def test_a_model_that_is_not_finite_stops_the_run_and_names_the_site(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2, training={"learning_rate": 10, "steps_per_round": 100})
    with pytest.raises(PolysiteError, match=r"site\d: 'body.w' is not finite after round \d"):
        run(crew)


def test_training_that_diverges_is_noticed_where_nothing_travels(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2, algorithm={"name": "local"}, training={"learning_rate": 10, "steps_per_round": 100})
    with pytest.raises(PolysiteError, match=r"site0: 'the loss loss' is not finite after round 0"):
        run(crew)


@pytest.mark.parametrize("values", [[3e38, 3e38, 3e38], [-3e38, 1.0, -3e38]])
def test_large_values_are_finite(toy_crew: CrewMaker, values: list[float]) -> None:
    """Their sum is not."""
    crew = toy_crew(1, training={"rounds": 1})
    crew.sites["site0"].work = lambda *_: Message(  # type: ignore[method-assign]
        "site0", {"body.w": torch.tensor(values)}, 1.0, {"seconds": 0.0}
    )
    crew.sites["site0"].final = lambda *_: crew.sites["site0"].slot().initial  # type: ignore[method-assign]
    run(crew)
    server = read_tensors(crew.folder / "server" / "model.safetensors")
    assert torch.equal(server["body.w"], torch.tensor(values))


def test_changes_that_add_up_beyond_all_floats_stop_the_run(toy_crew: CrewMaker) -> None:
    crew = toy_crew(1, exchange={"values": "bfloat16"})
    change = {"body.w": torch.full((3,), 3e38, dtype=torch.bfloat16)}
    crew.sites["site0"].work = lambda *_: Message("site0", change, 1.0, {"seconds": 0.0})  # type: ignore[method-assign]
    with pytest.raises(PolysiteError, match=r"site0: 'body.w' is not finite after round 1"):
        run(crew)


def test_a_site_gets_exactly_the_names_of_its_plan(toy_crew: CrewMaker) -> None:
    seen: list[set[str]] = []

    class Watching(Algorithm):
        def local(self, site: Any, model: Any, fit: Any, news: Any) -> Any:
            seen.append(set(news))
            return super().local(site, model, fit, news)

    crew = toy_crew(1)
    site = crew.sites["site0"]
    site.algorithm = Watching(crew.algorithm.settings)
    site.work(0, {**crew.initial(), "discriminators.of.another.site": torch.zeros(3)})
    assert seen == [set(site.plan.shared)]
    with pytest.raises(PolysiteError, match=r"site0: the server did not send 'body.w'"):
        site.work(1, {"body.steps": torch.tensor(0)})


def test_memory_does_not_change_with_the_model(toy_crew: CrewMaker) -> None:
    """Otherwise it would be another one after a stop, or where two sites take turns."""
    seen: list[torch.Tensor] = []

    class Keeping(Algorithm):
        def local(self, site: Any, model: Any, fit: Any, news: Any) -> Any:
            if site.memory:
                seen.append(site.memory["last"].clone())
            message = super().local(site, model, fit, news)
            site.memory["last"] = model.head.w  # the parameter itself
            return message

    for n_sites in (1, 2):
        crew = toy_crew(n_sites, folder=f"of{n_sites}")
        seen.clear()
        for site in crew.sites.values():
            site.algorithm = Keeping(crew.algorithm.settings)
        news = crew.initial()
        for round_ in range(3):
            message = next(site.work(round_, news) for site in crew.sites.values())
            crew.saver.wait()
            kept = crew.sites["site0"].store.load(round_ + 1)[0]
            assert torch.equal(kept["memory/last"], kept["private/head.w"])
            crew.sites["site0"].slot().model.head.w.data.fill_(-1)  # by another site
            crew.sites["site0"].slot().holder = None if n_sites == 2 else ("site0", round_ + 1)
            if round_ == 0:
                first = kept["memory/last"].clone()
            news = {**news, **message.tensors}
        assert torch.equal(seen[0], first)


def test_every_training_loop_of_a_round_draws_its_own_samples(toy_crew: CrewMaker) -> None:
    seeds: list[int] = []

    class Thrice(Algorithm):
        def local(self, site: Any, model: Any, fit: Any, news: Any) -> Any:
            for _ in range(3):
                fit(model)
            return super().local(site, model, fit, news)

    crew = toy_crew(1)
    site = crew.sites["site0"]
    site.algorithm = Thrice(crew.algorithm.settings)
    fit = site.task.fit
    site.task.fit = lambda model, data, effort, *rest, **how: (  # type: ignore[method-assign]
        seeds.append(effort.seed),
        fit(model, data, effort, *rest, **how),
    )[1]
    site.work(0, crew.initial())
    site.work(1, crew.initial())
    assert len(set(seeds)) == 8


def test_a_site_without_a_sample_is_named_before_anything_runs(
    toy_crew: CrewMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Toy.data
    monkeypatch.setattr(
        Toy,
        "data",
        lambda self, site, cases: replace(
            data(self, site, cases), **({"n_samples": 0} if site == "site1" else {})
        ),
    )
    for algorithm in ("fedavg", "central"):
        with pytest.raises(DataError, match="site1: no training case has a sample"):
            toy_crew(2, folder=algorithm, algorithm={"name": algorithm})


def test_what_is_not_in_the_plan_does_not_leave(toy_crew: CrewMaker) -> None:
    class Leaking(Algorithm):
        def local(self, site: Any, model: Any, fit: Any, news: Any) -> Any:
            return {**super().local(site, model, fit, news), "head.w": model.head.w}

    crew = toy_crew(1)
    crew.sites["site0"].algorithm = Leaking(crew.algorithm.settings)
    with pytest.raises(PolysiteError, match=r"'head.w' would leave the site but is not in its share plan"):
        run(crew)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"head.w": torch.zeros(2)}, "not in its share plan"),
        ({"body.w": torch.zeros(5)}, r"\(5,\)"),
        ({"body.w": torch.zeros(3, dtype=torch.float64)}, "float64"),
        ({"body.w": torch.full((3,), float("nan"))}, "not finite"),
    ],
)
def test_the_server_refuses_a_wrong_message(
    toy_crew: CrewMaker, tensors: dict[str, torch.Tensor], message: str
) -> None:
    crew = toy_crew(1)

    class Forging:
        def visit(self, round_: int, news: Any, sites: Iterable[str]) -> Any:
            yield Message("site0", tensors, 1.0, {"seconds": 0.0})

        def close(self) -> None: ...

    with pytest.raises(PolysiteError, match=message):
        federate(crew, Forging(), lambda event: None)


def test_messages_are_aggregated_one_at_a_time(toy_crew: CrewMaker) -> None:
    """No site begins before the message of the one before it was taken in: memory does not grow with the sites."""
    crew = toy_crew(4, training={"rounds": 1})
    log: list[str] = []

    class Slow(Algorithm):
        def aggregate(self, server: Any, messages: Any) -> Any:
            def noted() -> Any:
                for message in messages:
                    log.append(f"taken {message.site}")
                    yield message

            return super().aggregate(server, noted())

    crew.algorithm = Slow(crew.algorithm.settings)
    engine = Here(Here.Settings(threads=1), crew)
    work = {name: site.work for name, site in crew.sites.items()}
    for name, site in crew.sites.items():
        site.work = lambda *a, name=name: log.append(f"worked {name}") or work[name](*a)  # type: ignore[method-assign]
    federate(crew, engine, lambda event: None)
    assert log == [f"{what} site{k}" for k in range(4) for what in ("worked", "taken")]


def test_validation_is_of_the_model_that_would_be_evaluated(toy_crew: CrewMaker) -> None:
    crew = toy_crew(2, training={"rounds": 2})
    events = run(crew)
    first = [event for event in events if event["event"] == "site" and event["round"] == 0]
    initial = crew.sites["site0"].slot().initial["body.w"]
    for k, event in enumerate(first):
        assert event["validation"]["loss"] == pytest.approx(
            0.5 * float((initial - (-2.0) ** k).square().sum()), rel=1e-6
        )
