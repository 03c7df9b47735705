"""MOON: the contrast by its formula, and what a site remembers for it."""

import math

import pytest
import torch

from contracts import checks
from fakes import MemoryCase, small_task
from polysite.algorithms.algorithm import Place
from polysite.algorithms.features import pooled
from polysite.algorithms.moon import Moon, model_contrast
from polysite.errors import ConfigError
from polysite.tasks.task import Effort
from toy import CrewMaker


def test_the_contrast_is_the_papers() -> None:
    stream = torch.Generator().manual_seed(0)
    z, g, p = (torch.randn(5, 7, generator=stream) for _ in range(3))
    near, far = ((torch.cosine_similarity(z, other) / 0.5).exp() for other in (g, p))
    assert model_contrast(z, g, p, 0.5).item() == pytest.approx((-(near / (near + far)).log()).mean().item())


def test_descent_goes_to_the_global_features_and_from_the_previous_ones() -> None:
    z = torch.tensor([[1.0, 1.0]], requires_grad=True)
    model_contrast(z, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5).backward()
    assert z.grad is not None
    assert z.grad[0, 0] < 0 < z.grad[0, 1]


def test_features_are_pooled_over_space_and_joined_over_branches() -> None:
    features = {"global": torch.rand(2, 3, 2, 4, 4), "local": torch.rand(2, 5, 2, 4, 4)}
    z = pooled(features)
    assert z.shape == (2, 8)
    torch.testing.assert_close(z[:, :3], features["global"].mean((2, 3, 4)))
    torch.testing.assert_close(z[:, 3:], features["local"].mean((2, 3, 4)))


def test_the_first_round_has_no_previous_model_and_is_federated_averagings(cube_crew: CrewMaker) -> None:
    made = []
    for folder, mu in (("a", 0.0), ("b", 1.0)):
        crew = cube_crew(1, folder=folder, algorithm={"name": "moon", "mu": mu})
        made.append(crew.sites["site0"].work(0, crew.initial()))
    plain, guided = made
    assert plain.facts["losses"] == guided.facts["losses"]
    assert all(torch.equal(guided.tensors[name], tensor) for name, tensor in plain.tensors.items())


def test_features_equally_near_both_give_log_2_and_no_gradient() -> None:
    z = torch.rand(3, 4, requires_grad=True)
    loss = model_contrast(z, z.detach() + 1, z.detach() + 1, 0.5)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert z.grad is not None
    assert z.grad.abs().max() < 1e-7


def test_the_previous_model_is_the_one_that_was_sent(cube_crew: CrewMaker) -> None:
    crew = cube_crew(2, algorithm={"name": "moon", "mu": 1.0})
    state = crew.initial()
    for round_ in range(2):
        messages = [site.work(round_, state) for site in crew.sites.values()]
        state = crew.algorithm.aggregate(state, messages)
    crew.saver.wait()
    for message in messages:
        previous, _ = crew.sites[message.site].store.load(2, prefix="memory/previous/")
        assert set(previous) == set(message.tensors)
        assert all(torch.equal(tensor, previous[name]) for name, tensor in message.tensors.items())
        assert 0 < message.facts["losses"]["contrast"] < 10


def test_a_network_without_features_is_refused() -> None:
    """A generator of images gives none."""
    task = small_task()
    model, data = task.build("north", 3), task.data("north", [MemoryCase()])

    def fit(model: object, *, guide: object, **how: object) -> None:
        task.fit(model, data, Effort(1, 2, 1.0, 0), task.optimisers(model), guide=guide)  # type: ignore[arg-type]

    with pytest.raises(
        ConfigError, match="moon compares features, and this task's network gives none; use it for"
    ):
        Moon(Moon.Settings()).local(Place("north", 0, seed=1), model, fit, {})  # type: ignore[arg-type]


def test_without_weight_nothing_is_remembered(toy_crew: CrewMaker) -> None:
    crew = toy_crew(1, algorithm={"name": "moon", "mu": 0})
    checks.run(crew)
    assert crew.sites["site0"].store.load(3, prefix="memory/")[0] == {}
