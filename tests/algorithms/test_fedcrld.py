"""FedCRLD on its own network, small: every defect of the release is a test here."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts import checks
from cubes import cubes_raw
from polysite import recipe
from polysite.algorithms.algorithm import Place
from polysite.algorithms.fedcrld import FedCRLD
from polysite.engines.here import Here
from polysite.errors import ConfigError
from polysite.federation.crew import make_algorithm, make_plans, make_task
from polysite.federation.share import describe, explain
from polysite.networks.segmented import Segmented
from polysite.tasks.task import Pass, rate_factor
from toy import CrewMaker

SHARED = "segmenter.global_encoder."
INFO_NCE = {"contrast": "infonce", "n_tokens": 6, "queue_size": 10}


def rounds(crew: Any, n: int) -> tuple[dict[str, Tensor], list[Any]]:
    """So many rounds; the server's state and the last round's messages."""
    engine, state, messages = Here(Here.Settings(threads=1), crew), crew.initial(), []
    for round_ in range(n):
        messages = list(engine.visit(round_, state, crew.sites))
        state = crew.algorithm.aggregate(state, messages)
    crew.saver.wait()
    return state, messages


# --- what travels -------------------------------------------------------------------------------------


def test_the_plan_at_full_size_shows_the_global_encoder_alone() -> None:
    """From models without memory: nothing of 33 million values is allocated. The sites' heads differ."""
    site = {"data": {"format": "bids", "path": "nowhere"}}
    run = recipe.build(
        {
            "name": "hearts",
            "contrasts": ["ED", "ES", "LGE"],
            "sites": {
                "ivy": {**site, "labels": {"LV": 1, "MYO": 2, "RV": 3}},
                "nave": {**site, "labels": {"LV": 1, "MYO": 2, "infarct": 3, "no-reflow": 4}},
            },
            "task": {"name": "segmentation"},
            "algorithm": {"name": "fedcrld"},
        }
    )
    task = make_task(run)
    plans = make_plans(run, task, make_algorithm(run, task))
    description = describe(plans)
    assert description["shared"]["values"] == 5_478_912
    assert description["networks"]["segmenter"]["parameters"] == 33_240_324
    assert "ivy: 5,478,912 values; 21,915,648 bytes up" in explain(description)
    for plan in plans.values():
        assert plan.values == 5_478_912
        assert plan.bytes_up == plan.bytes_down == 4 * 5_478_912
        assert len(plan.shared) == 32
        assert all(name.startswith(SHARED) and tensor.is_meta for name, tensor in plan.shared.items())
        assert not any(name.startswith(SHARED) for name in plan.private)


def test_the_payload_holds_the_global_encoder_and_nothing_else(cube_crew: CrewMaker) -> None:
    crew = cube_crew(algorithm={"name": "fedcrld", **INFO_NCE})
    state, messages = rounds(crew, 2)
    names = {name for name in crew.sites["site0"].plan.shared if name.startswith(SHARED)}
    for tensors in (state, *(message.tensors for message in messages)):
        assert set(tensors) == names
    for site in crew.sites.values():  # and no value of what stays
        kept, _ = site.store.load(2)
        sent = [tensor.numpy().tobytes() for message in messages for tensor in message.tensors.values()]
        for name, tensor in kept.items():
            if tensor.unique().numel() > 2:
                assert not any(tensor.numpy().tobytes() in bytes_ for bytes_ in sent), name


def test_after_a_round_every_global_encoder_is_the_mean_and_all_else_the_sites_own(
    cube_crew: CrewMaker,
) -> None:
    crew = cube_crew(3, algorithm={"weights": "equal"}, training={"rounds": 1})
    own = {name: tensor.clone() for name, tensor in crew.sites["site0"].slot().initial.items()}
    checks.run(crew)
    finals = [checks.final(crew, site) for site in crew.sites]
    sent = [site.store.load_outbox(1)[0] for site in crew.sites.values()]
    private = [site.store.load(1, prefix="private/")[0] for site in crew.sites.values()]
    for name in own:
        if name.startswith(SHARED):
            mean = torch.stack([tensors[name].double() for tensors in sent]).mean(0).float()
            assert not torch.equal(sent[0][name], sent[1][name])
            for model in finals:
                torch.testing.assert_close(model[name], mean, rtol=1e-6, atol=1e-7)
                assert torch.equal(model[name], finals[0][name])
        else:
            for model, kept in zip(finals, private, strict=True):
                assert torch.equal(model[name], kept[name])
            assert not torch.equal(finals[0][name], finals[1][name]), name


@pytest.mark.parametrize(("weights", "of"), [("samples", (1, 2)), ("equal", (1, 1))])
def test_the_mean_is_of_volumes_or_of_sites(cube_crew: CrewMaker, weights: str, of: tuple[int, int]) -> None:
    name = f"{SHARED}block1.conv1.weight"
    crew = cube_crew(2, algorithm={"name": "fedcrld", "weights": weights})
    state, messages = rounds(crew, 1)
    one, two = (message.tensors[name] for message in messages)
    torch.testing.assert_close(state[name], (of[0] * one + of[1] * two) / sum(of))


def test_a_network_without_a_global_encoder_is_refused(toy_crew: CrewMaker) -> None:
    with pytest.raises(ConfigError, match=r"'segmenter.global_encoder.\*'; use network: {name: fedcrld}"):
        toy_crew(2, algorithm={"name": "fedcrld"})


# --- the teacher --------------------------------------------------------------------------------------


def test_the_teacher_is_the_closed_form_over_steps_and_rounds(
    cube_crew: CrewMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this site's own steps; what the server sends enters through the student alone."""
    m, crew = 0.75, cube_crew(algorithm={"name": "fedcrld", "momentum": 0.75})
    site, seen = crew.sites["site0"], []
    starts = {name: tensor.double() for name, tensor in site.slot().initial.items()}
    fit = crew.task.fit

    def watched(*given: Any, after_step: Any, **how: Any) -> Any:
        def noted(model: nn.Module) -> None:
            seen.append({name: tensor.double() for name, tensor in model.state_dict().items()})
            after_step(model)

        return fit(*given, after_step=noted, **how)

    monkeypatch.setattr(crew.task, "fit", watched)
    state = crew.initial()
    for round_ in range(3):
        site.work(round_, state)
        state = {name: tensor + 1 for name, tensor in state.items()}  # other sites pull far away
    crew.saver.wait()
    assert len(seen) == 6
    teacher, _ = site.store.load(3, prefix="memory/teacher/")
    assert set(teacher) == set(starts)
    for name, tensor in teacher.items():
        meant = m**6 * starts[name] + (1 - m) * sum(m ** (6 - i) * s[name] for i, s in enumerate(seen, 1))
        torch.testing.assert_close(tensor.double(), meant, rtol=1e-5, atol=1e-5)


def test_with_a_bank_the_teacher_is_the_mean_of_the_models_at_the_last_ends_of_rounds(
    cube_crew: CrewMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = cube_crew(1, algorithm={"name": "fedcrld", "bank_size": 3}, training={"rounds": 5})
    site, state = crew.sites["site0"], crew.initial()
    ends: list[dict[str, Tensor]] = []
    taught: list[dict[str, Tensor]] = []
    fit = crew.task.fit

    def watched(model: Any, *rest: Any, guide: Any, **how: Any) -> Any:
        def noted(forward: Pass) -> Any:
            return guide(
                Pass(forward.output, lambda values: (taught.append(dict(values)), forward.again(values))[1])
            )

        losses = fit(model, *rest, guide=noted, **how)
        ends.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return losses

    monkeypatch.setattr(crew.task, "fit", watched)
    for round_ in range(5):
        state = crew.algorithm.aggregate(state, [site.work(round_, state)])
    crew.saver.wait()
    assert len(taught) == 5 * 2
    assert all(torch.equal(taught[0][name], tensor) for name, tensor in site.slot().initial.items())
    for round_ in range(1, 5):
        last = ends[max(0, round_ - 3) : round_]
        for step in (0, 1):  # it does not move within a round
            for name, tensor in taught[2 * round_ + step].items():
                mean = torch.stack([end[name] for end in last]).mean(0)
                torch.testing.assert_close(tensor, mean, rtol=1e-5, atol=1e-6)
    kept, _ = site.store.load(5, prefix="memory/")
    assert {name.split("/")[0] for name in kept} == {"bank"}
    assert {name.split("/")[1] for name in kept} == {"0", "1", "2"}


def test_the_model_that_predicts_is_a_setting(cube_crew: CrewMaker) -> None:
    """The same training; the student's global encoder is the server's, the teacher's is its own."""
    made = {}
    for who in ("student", "teacher"):
        crew = cube_crew(folder=who, algorithm={"name": "fedcrld", "predict_with": who})
        checks.run(crew)
        made[who] = checks.final(crew, "site1")
        memory, _ = crew.sites["site1"].store.load(2, prefix="memory/teacher/")
        private, _ = crew.sites["site1"].store.load(2, prefix="private/")
        meant = memory if who == "teacher" else {**checks.server_state(crew), **private}
        assert set(made[who]) == set(meant)
        assert all(torch.equal(tensor, meant[name]) for name, tensor in made[who].items())
    assert all(made["student"][n].shape == t.shape for n, t in made["teacher"].items())
    assert not torch.equal(*(made[who][f"{SHARED}block1.conv1.weight"] for who in made))


@pytest.mark.parametrize("bank_size", [0, 2])
def test_without_distillation_there_is_no_teacher(cube_crew: CrewMaker, bank_size: int) -> None:
    algorithm = {"name": "fedcrld", "output_weight": 0, "feature_weight": 0, "bank_size": bank_size}
    crew = cube_crew(1, algorithm=algorithm)
    rounds(crew, 1)
    assert crew.sites["site0"].store.load(1, prefix="memory/")[0] == {}


# --- the loss -----------------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.segmenter = nn.ModuleDict({"global_encoder": nn.Linear(1, 1)})


def guide_of(settings: dict[str, Any], memory: dict[str, Tensor] | None = None) -> Any:
    """The guide with which the method trains."""
    given: dict[str, Any] = {}
    place = Place("ivy", 0, 5, {} if memory is None else memory)
    algorithm = FedCRLD(FedCRLD.Settings(**settings))
    algorithm.local(place, Small(), lambda model, **how: given.update(how), {})
    return given["guide"]


def output(seed: int, logits: Tensor | None = None) -> Segmented:
    stream = torch.Generator().manual_seed(seed)
    made = [torch.randn(1, 8, 2, 3, 4, generator=stream) for _ in range(2)]
    drawn = torch.randn(1, 3, 2, 9, 9, generator=stream)
    return Segmented(drawn if logits is None else logits, {"global": made[0], "local": made[1]})


def test_the_student_learns_from_the_teacher_and_not_the_other_way_round() -> None:
    """H(q, p) = -Σ q log p = log 2 for p = (½, ½); with the arguments swapped it were 1.204."""
    p, q = (torch.tensor(values).log().view(1, 2, 1, 1, 1) for values in ([0.5, 0.5], [0.9, 0.1]))
    guide = guide_of({"feature_weight": 0, "contrast_weight": 0})
    terms = guide(Pass(output(0, p), lambda values: output(1, q)))
    assert set(terms) == {"distillation"}
    assert terms["distillation"].item() == pytest.approx(0.2 * math.log(2))


def test_the_terms_are_the_papers_with_their_weights() -> None:
    student, teacher = output(0), output(1)
    terms = guide_of({"contrast_weight": 0.5})(Pass(student, lambda values: teacher))
    p, q = student.logits.log_softmax(1), teacher.logits.softmax(1)
    assert terms["distillation"].item() == pytest.approx(-0.2 * (q * p).sum(1).mean().item(), rel=1e-5)
    squares = sum(
        (student.features[b] - teacher.features[b]).square().mean().item() for b in ("global", "local")
    )
    assert terms["features"].item() == pytest.approx(squares, rel=1e-5)
    g, l_ = (student.features[b].log_softmax(1) for b in ("global", "local"))
    kl = ((g.exp() - l_.exp()) * (g - l_)).sum(1).mean().item() / 2
    assert terms["contrast"].item() == pytest.approx(0.5 * kl, rel=1e-5)


def test_the_teacher_of_the_guide_is_the_memorys() -> None:
    memory: dict[str, Tensor] = {"teacher/segmenter.global_encoder.bias": torch.tensor([7.0])}
    seen: list[dict[str, Tensor]] = []
    guide_of({}, memory)(Pass(output(0), lambda values: (seen.append(dict(values)), output(1))[1]))
    assert seen[0]["segmenter.global_encoder.bias"].item() == 7.0
    assert set(seen[0]) == set(Small().state_dict())


def test_tokens_are_drawn_anew_every_step_and_the_same_for_the_same_seed() -> None:
    values = []
    for _ in range(2):
        guide = guide_of({**INFO_NCE, "queue_size": 0, "feature_weight": 0, "output_weight": 0})
        values.append([guide(Pass(output(0), None))["contrast"].item() for _ in range(4)])
    assert values[0] == values[1]
    assert len(set(values[0])) == 4


def test_negatives_are_the_teachers_tokens_of_earlier_volumes() -> None:
    memory: dict[str, Tensor] = {}
    guide = guide_of(INFO_NCE, memory)
    for step, size in enumerate((6, 10, 10)):
        before = {name: tensor.clone() for name, tensor in memory.items() if name.startswith("queue/")}
        past = output(100 + step)
        guide(Pass(output(step), lambda values, past=past: past))
        for branch in ("global", "local"):
            queue = memory[f"queue/{branch}"]
            assert queue.shape == (size, 8)
            places = past.features[branch].flatten(2)[0].t()
            assert all((places == token).all(1).any() for token in queue[-6:])
            if before:
                assert torch.equal(queue[:-6], before[f"queue/{branch}"][6 - size :])


def test_negatives_make_the_partner_harder_to_find() -> None:
    memory: dict[str, Tensor] = {}
    alone, among = guide_of({**INFO_NCE, "queue_size": 0}), guide_of(INFO_NCE, memory)
    forward = Pass(output(0), lambda values: output(0))
    first = alone(forward)["contrast"].item()
    assert among(forward)["contrast"].item() == first  # none yet
    memory["queue/local"] = memory["queue/global"] = output(9).features["local"].flatten(2)[0].t()
    assert guide_of(INFO_NCE, memory)(forward)["contrast"].item() > first


def test_an_output_without_both_branches_is_refused() -> None:
    one = Segmented(output(0).logits, {"bottleneck": torch.zeros(1)})
    for wrong, what in (
        (one, "fedcrld compares a local and a global encoder, and this network has bottleneck"),
        (torch.zeros(3), "fedcrld compares features, and this task's network gives none"),
    ):
        guide = guide_of({"output_weight": 0, "feature_weight": 0})
        with pytest.raises(ConfigError, match=what):
            guide(Pass(wrong, lambda values: output(1)))


def test_weights_of_zero_are_partial_averaging_bit_for_bit(cube_crew: CrewMaker) -> None:
    nothing = {"contrast_weight": 0, "output_weight": 0, "feature_weight": 0}
    crew = cube_crew(folder="a", algorithm={"name": "fedcrld", **nothing})
    checks.run(crew)
    plain = {
        "name": "fedavg",
        "private": list(crew.sites["site0"].plan.private),
    }
    average = cube_crew(folder="b", algorithm=plain, training={"learning_rate": 3e-4, "betas": [0.9, 0.999]})
    checks.run(average)
    assert checks.models_of(crew.folder) == checks.models_of(average.folder)


def test_the_reported_losses_are_the_tasks_and_the_methods(cube_crew: CrewMaker) -> None:
    crew = cube_crew(1)
    _, (message,) = rounds(crew, 1)
    assert set(message.facts["losses"]) == {"segmentation", "distillation", "features", "contrast"}


# --- rounds -------------------------------------------------------------------------------------------


def test_moments_of_adam_go_on_over_rounds(cube_crew: CrewMaker) -> None:
    crew = cube_crew()
    rounds(crew, 2)
    kept, _ = crew.sites["site0"].store.load(2, prefix="optimiser/")
    steps = [tensor.item() for name, tensor in kept.items() if name.endswith("/step")]
    assert steps
    assert set(steps) == {4.0}


@pytest.mark.parametrize(("stop", "bank_size"), [(1, 0), (2, 2), (3, 0)])
def test_a_run_with_tokens_and_negatives_goes_on_to_the_last_bit(
    cube_crew: CrewMaker, stop: int, bank_size: int
) -> None:
    algorithm = {"name": "fedcrld", **INFO_NCE, "bank_size": bank_size, "predict_with": "teacher"}
    checks.resume(cube_crew, algorithm, stops=(stop,), over={})


def test_faithful_is_the_release_and_repaired_the_default(cube_crew: CrewMaker) -> None:
    repaired, faithful = (
        recipe.build(cubes_raw(network={}, algorithm={"name": "fedcrld", **preset}))
        for preset in ({}, {"preset": "faithful"})
    )
    assert repaired.method == "fedcrld-repaired"
    assert repaired.network.settings["cross_roles"] == "local_query"
    assert faithful.network.settings["cross_roles"] == "global_query"
    assert faithful.algorithm.settings["momentum"] == 0.5
    assert faithful.algorithm.settings["weights"] == "equal"
    assert faithful.algorithm.settings["contrast_weight"] == 1
    assert faithful.training.epochs_per_round == 5
    assert rate_factor(399, rounds=400, flat_rounds=faithful.training.flat_rounds, end="positive") == 1
    for run in (repaired, faithful):
        assert run.training.learning_rate == 3e-4
        assert run.training.betas == (0.9, 0.999)
        assert run.algorithm.settings["contrast"] == "kl"
        assert run.algorithm.settings["output_weight"] == 0.2
        assert run.algorithm.settings["feature_weight"] == 1


def test_no_relocalization_is_a_setting_of_the_network(cube_crew: CrewMaker) -> None:
    crew = cube_crew(1, network={"relocalization": False})
    names = crew.sites["site0"].plan.private
    assert not any("relocalization" in name for name in names)
    rounds(crew, 1)
