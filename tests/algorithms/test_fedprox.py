"""FedProx equals its formula, over the shared parameters and nothing else."""

import numpy as np
import pytest
import torch

from contracts import checks
from polysite.algorithms.proximal import proximal
from toy import CrewMaker, ToyModel


def test_equals_two_rounds_worked_out_in_numpy(toy_crew: CrewMaker) -> None:
    """Gradient ``(w - c) + mu (w - w_round)`` in the body that travels; the head is not pulled."""
    mu = 0.7
    crew = toy_crew(2, algorithm={"name": "fedprox", "mu": mu, "private": ["head.*"]}, training={"rounds": 2})
    initial = crew.sites["site0"].slot().initial
    server, heads = initial["body.w"].double().numpy(), [initial["head.w"].double().numpy()] * 2
    checks.run(crew)
    rate, speeds = crew.run.training.learning_rate, [(np.zeros(3), np.zeros(2))] * 2
    for _ in range(2):
        sent = []
        for k, centre in enumerate([1.0, -2.0]):
            w, h, (v, u) = server, heads[k], speeds[k]
            for _ in range(crew.run.training.steps_per_round):
                v, u = 0.5 * v + (w - centre) + mu * (w - server), 0.5 * u + (h - centre)
                w, h = w - rate * v, h - rate * u
            heads[k], speeds[k] = h, (v, u)
            sent.append(w)
        server = np.average(sent, axis=0, weights=[1, 2])
    for k in range(2):
        made = checks.final(crew, f"site{k}")
        np.testing.assert_allclose(made["body.w"].numpy(), server, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(made["head.w"].numpy(), heads[k], rtol=1e-5, atol=1e-6)


def test_the_pull_is_half_the_squared_distance_and_its_gradient_the_distance() -> None:
    model = ToyModel(3)
    with torch.no_grad():
        model.body.w.copy_(torch.tensor([1.0, 2.0, 3.0]))
    towards = {"body.w": torch.tensor([0.0, 2.0, 5.0]), "body.steps": torch.tensor(9)}
    penalty = proximal(model, towards, 0.5)
    value = penalty(model)
    assert value.item() == pytest.approx(0.5 / 2 * (1 + 4))
    value.backward()
    assert model.body.w.grad is not None
    assert torch.equal(model.body.w.grad, 0.5 * torch.tensor([1.0, 0.0, -2.0]))
    assert model.head.w.grad is None


def test_parameters_that_are_not_trained_are_not_pulled() -> None:
    model = ToyModel(3).requires_grad_(False)
    assert proximal(model, {"body.w": torch.ones(3)}, 1.0)(model) == 0
    assert proximal(ToyModel(3), {"body.steps": torch.tensor(0)}, 1.0)(model) == 0
