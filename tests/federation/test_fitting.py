"""The loop that a method gets: whose moments go on, which samples it sees, what its losses are called."""

from typing import Any

import pytest
import torch
from torch import nn

from polysite.algorithms.algorithm import Algorithm
from polysite.errors import PolysiteError
from toy import CrewMaker


def work(crew: Any, local: Any, rounds: int = 1) -> list[Any]:
    """Rounds of the first site with another local work."""

    class Mine(Algorithm):
        def local(self, site: Any, model: Any, fit: Any, news: Any) -> Any:
            local(model, fit)
            return self.sent(model)

    site = crew.sites["site0"]
    site.algorithm = Mine(crew.algorithm.settings)
    return [site.work(round_, crew.initial()) for round_ in range(rounds)]


def test_losses_of_several_loops_do_not_overwrite_one_another(toy_crew: CrewMaker) -> None:
    def local(model: nn.Module, fit: Any) -> None:
        fit(model, only={"head.w"})
        fit(model, only={"body.w"})
        for _ in range(2):
            fit(model, moments="personal")

    (message,) = work(toy_crew(1), local)
    names = ["loss", "loss_2", "personal_loss", "personal_loss_2"]
    assert list(message.facts["losses"]) == names
    assert len(set(message.facts["losses"].values())) == 4


def test_parts_of_a_guide_are_added_and_reported_each_by_its_name(toy_crew: CrewMaker) -> None:
    made = []
    for folder, guide in (
        (
            "parts",
            lambda forward: {"a": forward.output.logits.sum() * 0.25, "b": forward.output.logits.sum()},
        ),
        ("sum", lambda forward: forward.output.logits.sum() * 0.25 + forward.output.logits.sum()),
    ):
        (message,) = work(toy_crew(1, folder=folder), lambda model, fit, guide=guide: fit(model, guide=guide))
        made.append(message)
    parts, whole = made
    assert set(parts.facts["losses"]) == {"loss", "a", "b"}
    assert parts.facts["losses"]["a"] == pytest.approx(parts.facts["losses"]["b"] / 4)
    assert set(whole.facts["losses"]) == {"loss"}
    assert torch.equal(parts.tensors["body.w"], whole.tensors["body.w"])


def test_a_part_must_not_be_called_as_a_loss_of_the_task(toy_crew: CrewMaker) -> None:
    with pytest.raises(PolysiteError, match="'loss', as the task calls a loss"):
        work(
            toy_crew(1),
            lambda model, fit: fit(model, guide=lambda forward: {"loss": forward.output.logits.sum()}),
        )


def test_two_models_see_the_same_samples_and_two_loops_of_one_others(toy_crew: CrewMaker) -> None:
    crew = toy_crew(1, task={"noisy": True})
    seeds: list[int] = []
    fit = crew.task.fit
    crew.task.fit = lambda model, data, effort, *rest, **how: (
        seeds.append(effort.seed),
        fit(model, data, effort, *rest, **how),
    )[1]

    def local(model: nn.Module, fit: Any) -> None:
        for moments in (None, None, "personal", "personal"):
            fit(model, moments=moments)

    work(crew, local)
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 2


def test_moments_of_a_second_model_go_on_as_those_of_the_first(toy_crew: CrewMaker) -> None:
    """Momentum SGD: after a stop of the process as well, because they are read from the checkpoint."""
    ways: dict[str | None, list[torch.Tensor]] = {None: [], "other": []}

    def local(model: nn.Module, fit: Any) -> None:
        for moments, way in ways.items():
            start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            first: list[torch.Tensor] = []
            fit(
                model,
                moments=moments,
                after_step=lambda model, first=first: first.append(model.body.w.detach().clone()),
            )
            way.append(first[0] - start["body.w"])
            model.load_state_dict(start)

    crew = toy_crew(1)
    work(crew, local)
    crew.saver.wait()
    work(toy_crew(1), local, rounds=2)  # another process: the first round is on disk
    assert [len(way) for way in ways.values()] == [2, 2]
    for one, other in zip(*ways.values(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(*ways["other"])


def test_epochs_are_loops_of_one_call(toy_crew: CrewMaker) -> None:
    """One mean of the losses over all of them."""
    seen: list[int] = []
    crew = toy_crew(1, training={"epochs_per_round": 3})
    fit = crew.task.fit
    crew.task.fit = lambda model, data, effort, *rest, **how: (
        seen.append(effort.n_epochs),
        fit(model, data, effort, *rest, **how),
    )[1]
    (message,) = work(crew, lambda model, fit: fit(model))
    assert seen == [3]
    assert set(message.facts["losses"]) == {"loss"}
