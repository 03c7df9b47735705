"""Ditto: the global model is FedAvg's, the personal one equals its formula."""

from typing import Any

import numpy as np
import pytest
import torch

from contracts import checks
from fakes import MemoryCase
from golden import federation
from polysite import recipe
from polysite.federation.crew import assemble
from polysite.federation.saver import saving
from toy import CrewMaker


@pytest.mark.parametrize("strength", [0.0, 0.3, 3.0])
def test_the_personal_model_equals_its_formula(toy_crew: CrewMaker, strength: float) -> None:
    """Gradient ``(v - c) + lambda (v - w)`` with w as it arrived; momentum of its own, over rounds."""
    crew = toy_crew(2, algorithm={"name": "ditto", "lam": strength, "private": []})
    initial = crew.sites["site0"].slot().initial["body.w"].double().numpy()
    rate = crew.run.training.learning_rate
    checks.run(crew)
    w = initial
    v, speed = [initial] * 2, [np.zeros(3)] * 2
    u = [np.zeros(3)] * 2
    for _ in range(3):
        sent = []
        for k, centre in enumerate([1.0, -2.0]):
            trained = w
            for _ in range(2):
                u[k] = 0.5 * u[k] + (trained - centre)
                trained = trained - rate * u[k]
                speed[k] = 0.5 * speed[k] + (v[k] - centre) + strength * (v[k] - w)
                v[k] = v[k] - rate * speed[k]
            sent.append(trained)
        w = np.average(sent, axis=0, weights=[1, 2])
    np.testing.assert_allclose(checks.server_state(crew)["body.w"].numpy(), w, rtol=1e-5, atol=1e-6)
    for k in range(2):
        made = checks.final(crew, f"site{k}")["body.w"].numpy()
        np.testing.assert_allclose(made, v[k], rtol=1e-5, atol=1e-6)


def test_a_strong_pull_brings_the_personal_model_to_the_global_one(toy_crew: CrewMaker) -> None:
    far = []
    for strength in (0.0, 1.0, 2.5):
        crew = toy_crew(2, folder=f"at{strength}", algorithm={"name": "ditto", "lam": strength})
        checks.run(crew)
        gap = checks.final(crew, "site0")["body.w"] - checks.server_state(crew)["body.w"]
        far.append(gap.norm().item())
    assert far[0] > far[1] > far[2]


def test_losses_and_moments_of_both_models_are_kept_apart(toy_crew: CrewMaker) -> None:
    crew = toy_crew(1, algorithm={"name": "ditto"})
    site = crew.sites["site0"]
    message = site.work(0, crew.initial())
    crew.saver.wait()
    assert set(message.facts["losses"]) == {"loss", "personal_loss"}
    kept, _ = site.store.load(1)
    main = {name.removeprefix("optimiser/") for name in kept if name.startswith("optimiser/")}
    own = {
        name.removeprefix("memory/moments/personal/") for name in kept if name.startswith("memory/moments/")
    }
    assert main == own
    assert main


def test_each_model_has_its_own_discriminators(tmp_path: Any) -> None:
    """In synthesis the global generator is that of federated averaging, trained against its own judges."""
    raw = {
        "name": "ditto",
        "contrasts": ["T1w", "T2w", "FLAIR"],
        "sites": {
            site: {"data": {"format": "bids", "path": "unused"}, "tasks": tasks}
            for site, tasks in federation.TASKS.items()
        },
        "task": {"name": "synthesis", "image_size": 24, "discriminator_width": 4},
        "network": {"name": "pflsynth", "width": 4, "n_blocks": 2, "latent": 8, "mapper_depth": 2},
        "training": {"rounds": 2, "steps_per_round": 2, "batch_size": 2, "learning_rate": 1e-3},
    }
    cases: Any = {site: {"train": [MemoryCase(site=site)]} for site in federation.TASKS}
    made = {}
    for name in ("fedavg", "ditto"):
        run = recipe.build({**raw, "algorithm": {"name": name}})
        with saving() as saver:
            crew = assemble(run, cases, tmp_path / name, saver)
            checks.run(crew)
            made[name] = crew
    average, ditto = (checks.server_state(made[name]) for name in ("fedavg", "ditto"))
    assert all(torch.equal(tensor, ditto[name]) for name, tensor in average.items())
    judges, personal = (
        made["ditto"].sites["north"].store.load(2, prefix=prefix)[0]
        for prefix in ("private/", "memory/personal/")
    )
    assert judges
    assert all(name.startswith("discriminators.") for name in judges)
    changed = [name for name, tensor in judges.items() if not torch.equal(tensor, personal[name])]
    assert any(name.endswith("weight") for name in changed)
    final = checks.final(made["ditto"], "north")
    assert all(torch.equal(tensor, personal[name]) for name, tensor in final.items())
