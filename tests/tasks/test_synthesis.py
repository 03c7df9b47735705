"""The synthesis task: its losses worked out, its steps, its data, and the defects it must not have."""

from typing import Any

import numpy as np
import pytest
import torch

from fakes import CONTRASTS, TINY, MemoryCase, small_task
from polysite.config.base import Component
from polysite.seeds import numpy_stream
from polysite.tasks.slices import Batch
from polysite.tasks.synthesis import Synthesis, SynthesisModel, task_key
from polysite.tasks.task import Effort

EFFORT = Effort(n_steps=3, batch_size=4, rate_factor=1.0, seed=5)


def states(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(task: Synthesis, effort: Effort = EFFORT, **how: Any) -> tuple[SynthesisModel, dict[str, float]]:
    model = task.build("north", 1)
    losses = task.fit(model, task.data("north", [MemoryCase()]), effort, task.optimisers(model), **how)
    return model, losses


def batch(task: Synthesis, n: int = 4) -> Batch:
    data = task.data("north", [MemoryCase()])
    return next(data.batches(numpy_stream(0, "batch"), 1, n))


def test_a_task_has_a_name_for_files_and_tensors() -> None:
    assert task_key("T1w -> T2w") == "T1w-T2w"


def test_networks_are_prefixes_of_the_state() -> None:
    task = small_task()
    model = task.build("north", 1)
    assert set(task.networks(model)) == {"generator", "discriminators.T1w-T2w", "discriminators.T1w-FLAIR"}
    for name, network in task.networks(model).items():
        assert {f"{name}.{key}" for key in network.state_dict()} == {
            key for key in model.state_dict() if key.startswith(f"{name}.")
        }


def test_every_site_starts_with_the_same_networks() -> None:
    task = small_task()
    north, south = states(task.build("north", 3)), states(task.build("south", 3))
    assert set(south) < set(north)
    assert all(torch.equal(north[name], tensor) for name, tensor in south.items())
    assert any(
        not torch.equal(tensor, states(task.build("south", 4))[name]) for name, tensor in south.items()
    )


def test_the_losses_are_the_formulas() -> None:
    """LSGAN and 100 times L1, by hand, from the networks' outputs before the step."""
    task = small_task(network=Component(name="pflsynth", **{**TINY.settings, "dropout": 0.0}))
    model, given = task.build("north", 1), batch(task)
    with torch.no_grad():
        fake = model.train().generator(given.source, given.site, given.source_contrast, given.target_contrast)
        expected = 0.0
        for code, key in ((1, "T1w-T2w"), (2, "T1w-FLAIR")):
            rows = torch.nonzero(given.target_contrast == code).flatten()
            if len(rows):
                judge = model.discriminators[key]
                false, true = (
                    judge(given.source[rows], fake[rows]),
                    judge(given.source[rows], given.target[rows]),
                )
                expected += len(rows) / 4 * 0.5 * (false.square().mean() + (true - 1).square().mean()).item()
    losses = task.step(task_model := task.build("north", 1), given, task.optimisers(task_model))
    assert losses["l1"].item() == pytest.approx((fake - given.target).abs().mean().item(), rel=1e-5)
    assert losses["discriminator"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["generator"].item() == pytest.approx(
        losses["adversarial"].item() + 100 * losses["l1"].item(), rel=1e-6
    )


def test_a_step_trains_both_networks_and_only_the_discriminators_of_its_tasks() -> None:
    task = small_task()
    model = task.build("north", 1)
    before, given = states(model), batch(task, 1)
    task.step(model, given, task.optimisers(model))
    used = "T1w-T2w" if given.target_contrast.item() == 1 else "T1w-FLAIR"
    changed = {
        name.rsplit(".", 2)[0]
        for name, tensor in states(model).items()
        if not torch.equal(tensor, before[name])
    }
    assert any(name.startswith("generator.res1") for name in changed)
    assert any(name.startswith("generator.mapper") for name in changed)
    assert {name.split(".")[1] for name in changed if name.startswith("discriminators")} == {used}


def test_the_same_seed_gives_the_same_weights_whatever_torchs_own_stream_holds() -> None:
    task = small_task()
    torch.manual_seed(1)
    one = states(trained(task)[0])
    torch.manual_seed(2)
    two = states(trained(task)[0])
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    other = states(trained(task, Effort(n_steps=3, batch_size=4, rate_factor=1.0, seed=6))[0])
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_training_reduces_the_error() -> None:
    task = small_task(training={"learning_rate": 2e-3})
    _, first = trained(task, Effort(n_steps=2, batch_size=4, rate_factor=1.0, seed=5))
    _, long = trained(task, Effort(n_steps=60, batch_size=4, rate_factor=1.0, seed=5))
    assert long["l1"] < 0.9 * first["l1"]


def test_a_rate_of_zero_leaves_every_weight_alone() -> None:
    task = small_task()
    before = dict(task.build("north", 1).named_parameters())
    model, _ = trained(task, Effort(n_steps=2, batch_size=4, rate_factor=0.0, seed=5))
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_only_some_parameters_are_trained_where_asked() -> None:
    task = small_task()
    before = dict(task.build("north", 1).named_parameters())
    only = {name for name in before if name.startswith("generator.out")}
    model, _ = trained(task, only=only)
    changed = {
        name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert changed == only
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_penalty_of_zero_changes_nothing_and_a_large_one_holds_the_weights() -> None:
    task = small_task()
    start = {name: p.detach().clone() for name, p in task.build("north", 1).named_parameters()}

    def pull(strength: float) -> Any:
        return lambda model: (
            strength * sum((p - start[n]).square().sum() for n, p in model.named_parameters())
        )

    def distance(model: torch.nn.Module) -> float:
        return sum(float((p.detach() - start[n]).square().sum()) for n, p in model.named_parameters())

    plain, zero, strong = (trained(task, penalty=p)[0] for p in (None, pull(0.0), pull(1e4)))
    assert all(torch.equal(tensor, states(zero)[name]) for name, tensor in states(plain).items())
    assert distance(strong) < 0.8 * distance(plain)


def test_after_step_sees_every_step() -> None:
    seen: list[int] = []
    trained(small_task(), after_step=lambda model: seen.append(1))
    assert len(seen) == EFFORT.n_steps


def test_an_epoch_is_every_slice_once() -> None:
    task = small_task()
    data = task.data("north", [MemoryCase(), MemoryCase(subject="02", seed=1)])
    sizes = [len(part.source) for part in data.batches(numpy_stream(0, "x"), None, 5)]
    assert sum(sizes) == data.n_samples == 12
    assert sizes == [5, 5, 2]


def test_a_batch_holds_pairs_with_their_own_codes() -> None:
    task = small_task()
    given = batch(task, 32)
    assert set(given.site.tolist()) == {0}
    assert set(given.source_contrast.tolist()) == {CONTRASTS.index("T1w")}
    for row in range(32):
        source, target = given.source[row], given.target[row]
        expected = -source if given.target_contrast[row] == 1 else 2 * source**2 - 1
        torch.testing.assert_close(target, expected, atol=3e-3, rtol=0)
    counts = np.bincount(given.target_contrast.numpy(), minlength=3)
    assert counts[0] == 0
    assert counts[1] > 4
    assert counts[2] > 4


def test_pooled_slices_keep_their_sites_codes_and_mix() -> None:
    task = small_task()
    members = [task.data(site, [MemoryCase(site=site, seed=k)]) for k, site in enumerate(("north", "south"))]
    pooled = task.pool(members)
    assert pooled.n_samples == 12
    batches = list(pooled.batches(numpy_stream(0, "x"), 3, 4))
    assert len(batches) == 6
    sites = torch.cat([part.site for part in batches])
    assert sorted(sites.tolist()) == [0] * 12 + [1] * 12
    assert any(len(set(part.site.tolist())) == 2 for part in batches)


def test_two_predictions_are_equal_and_change_nothing() -> None:
    """Defect of the release: never in evaluation mode."""
    task = small_task()
    model, _ = trained(task)
    before = states(model)
    one, two = (task.predict(model, MemoryCase(seed=9), "T1w->T2w", "north") for _ in range(2))
    assert one.shape == (6, 24, 24)
    np.testing.assert_array_equal(one, two)
    assert all(torch.equal(tensor, before[name]) for name, tensor in states(model).items())


def test_a_prediction_does_not_depend_on_how_slices_are_batched() -> None:
    """Defect of the release: one code for a whole batch, and batches above one crash."""
    task = small_task()
    model, _ = trained(task)
    case = MemoryCase(seed=9)
    eight = task.predict(model, case, "T1w->T2w", "north", batch_size=8)
    ones = task.predict(model, case, "T1w->T2w", "north", batch_size=1)
    np.testing.assert_allclose(eight, ones, atol=1e-5)


def test_site_and_task_change_the_prediction() -> None:
    """Defect of the release: the codes had no effect."""
    task = small_task()
    model = task.build("north", 1)
    case = MemoryCase(seed=9)
    base = task.predict(model, case, "T1w->T2w", "north")
    assert np.abs(base - task.predict(model, case, "T1w->T2w", "south")).max() > 1e-3
    assert np.abs(base - task.predict(model, case, "T1w->FLAIR", "north")).max() > 1e-3


def test_volumes_of_any_size_come_back_whole() -> None:
    task = small_task()
    model = task.build("north", 1)
    for shape in ((3, 12, 20), (2, 28, 8), (1, 24, 24)):
        assert task.predict(model, MemoryCase(shape=shape), "T1w->T2w", "north").shape == shape


def test_validation_of_a_perfect_and_of_a_constant_generator() -> None:
    task = small_task(tasks={"north": ["T1w->T2w"]})
    model = task.build("north", 1)
    data = task.data("north", [MemoryCase()])

    class Negate(torch.nn.Module):
        def forward(self, source: torch.Tensor, *codes: torch.Tensor) -> torch.Tensor:
            return -source

    class Zero(torch.nn.Module):
        def forward(self, source: torch.Tensor, *codes: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(source)

    model.generator = Negate()
    assert task.validate(model, data, 6, seed=1)["l1"] < 1e-3
    model.generator = Zero()
    got = task.validate(model, data, 6, seed=1)
    target = MemoryCase().volume("T2w").astype(np.float64)
    assert got["l1"] == pytest.approx(np.abs(target).mean(), rel=1e-4)
    assert got["psnr_db"] == pytest.approx(10 * np.log10(4 / np.square(target).mean()), rel=1e-4)


def test_bfloat16_is_close_to_float32() -> None:
    case = MemoryCase(seed=9)
    made = []
    for precision in ("float32", "bfloat16"):
        task = small_task(training={"precision": precision})
        made.append(task.predict(task.build("north", 1), case, "T1w->T2w", "north"))
    assert 0 < np.abs(made[0] - made[1]).max() < 0.05
