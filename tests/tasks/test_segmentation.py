"""The segmentation task's models and steps: names, heads, and its losses worked out."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from heart_cases import EFFORT, LABELS, TINY, UNET, HeartCase, heart_task, one, same, states
from polysite.config.base import Component
from polysite.errors import ConfigError
from polysite.losses.supervised import cross_entropy, dice_loss
from polysite.tasks.segmentation import Segmentation
from polysite.tasks.task import Effort

PARTIAL = {
    "ivy": {"labels": {"LV": 1, "MYO": 2, "RV": 3}, "part_of": {"scar": "MYO"}},
    "nave": {"labels": {"LV": 7, "MYO": 5, "scar": (6, 9)}},
}


# --- models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [TINY, UNET])
def test_names_begin_with_the_network_and_heads_are_named_after_classes(network: Component) -> None:
    task = heart_task(network=network)
    model = task.build("nave", 1)
    assert set(task.networks(model)) == {"segmenter"}
    assert all(name.startswith("segmenter.") for name in model.state_dict())
    heads = {name for name in model.state_dict() if name.startswith("segmenter.heads.")}
    assert heads == {"segmenter.heads.LV-MYO-scar.weight", "segmenter.heads.LV-MYO-scar.bias"}
    assert task.classes("nave") == ("background", "LV", "MYO", "scar")
    assert set(task.build("ivy", 1).segmenter.heads) == {"LV-MYO-RV"}
    assert set(task.build(None, 1).segmenter.heads) == {"LV-MYO-RV", "LV-MYO-scar"}


def test_all_but_the_heads_starts_equal_at_every_site() -> None:
    task = heart_task()
    ivy, nave, pooled = (states(task.build(site, 3)) for site in ("ivy", "nave", None))
    common = {name for name in ivy if not name.startswith("segmenter.heads.")}
    assert common == {name for name in nave if not name.startswith("segmenter.heads.")}
    for name in common:
        assert torch.equal(ivy[name], nave[name])
        assert torch.equal(ivy[name], pooled[name])
    assert same(ivy, states(task.build("ivy", 3)))
    assert not same(ivy, states(task.build("ivy", 4)))


def test_a_model_without_memory_has_the_same_names_and_shapes() -> None:
    task = heart_task()
    with torch.device("meta"):
        light = task.build("ivy", None, device="meta").state_dict()
    assert all(tensor.is_meta for tensor in light.values())
    real = task.build("ivy", 1).state_dict()
    assert {name: tensor.shape for name, tensor in light.items()} == {
        name: tensor.shape for name, tensor in real.items()
    }


def test_heads_are_private_where_classes_differ() -> None:
    assert heart_task().private() == ("segmenter.heads.*",)
    assert heart_task({"a": LABELS["ivy"], "b": LABELS["ivy"]}).private() == ()
    assert heart_task({"a": LABELS["ivy"], "b": {"labels": {"LV": 9, "MYO": 8, "RV": 4}}}).private() == ()
    assert heart_task({"a": LABELS["ivy"], "b": {"labels": {"MYO": 2, "LV": 1, "RV": 3}}}).private()
    common = heart_task(PARTIAL, classes=("LV", "MYO", "RV", "scar"))
    assert common.private() == ()
    assert common.classes("ivy") == common.classes("nave") == ("background", "LV", "MYO", "RV", "scar")


def test_wrong_settings_are_told() -> None:
    with pytest.raises(
        ConfigError, match=r"network\.name: 'pflsynth' is not for segmentation.*fedcrld.*unet"
    ):
        heart_task(network=Component(name="pflsynth"))
    with pytest.raises(ConfigError, match=r"sites\.ivy: 'RV' is not one of the classes"):
        heart_task(classes=("LV", "MYO", "scar"))
    with pytest.raises(ConfigError, match=r"sites\.b\.labels.*'a-b'"):
        heart_task({"a": {"labels": {"a": 1, "b": 2}}, "b": {"labels": {"a-b": 1}}})
    for classes, message in (
        (("LV", "LV"), "twice"),
        (("background", "LV"), "leave it out"),
        ((), "at least 1"),
    ):
        with pytest.raises(ValidationError, match=message):
            Segmentation.Settings(classes=classes)


# --- losses and steps ---------------------------------------------------------------------------------


def test_the_losses_are_the_formulas() -> None:
    task = heart_task(dice_weight=2.0, cross_entropy_weight=0.5)
    model, (batch,) = task.build("ivy", 1), one(task, HeartCase())
    logits = model.segmenter(batch.image, "LV-MYO-RV").logits
    dice, entropy = dice_loss(logits, batch.labels).item(), cross_entropy(logits, batch.labels).item()
    losses = task.step(model, [batch], task.optimisers(model))
    assert losses["dice_loss"].item() == pytest.approx(dice)
    assert losses["cross_entropy"].item() == pytest.approx(entropy)
    assert losses["segmentation"].item() == pytest.approx(2 * dice + 0.5 * entropy)


@pytest.mark.parametrize("network", [TINY, UNET])
def test_a_step_lowers_the_loss_on_a_fixed_volume(network: Component) -> None:
    task = heart_task(network=network, training={"learning_rate": 1e-3})
    model, batches = task.build("ivy", 1), one(task, HeartCase())
    optimisers = task.optimisers(model)
    first, second = (task.step(model, batches, optimisers)["segmentation"].item() for _ in range(2))
    assert second < first


def test_it_learns_the_heart() -> None:
    task = heart_task()
    model, data = task.build("ivy", 1), task.data("ivy", [HeartCase(seed=seed) for seed in range(4)])
    before = task.validate(model, data, 4, seed=0)
    task.fit(model, data, Effort(n_steps=60, batch_size=1, rate_factor=1.0, seed=1), task.optimisers(model))
    after = task.validate(model, data, 4, seed=0)
    assert after["dice"] > 0.95 > 0.3 > before["dice"]
    assert after["loss"] < before["loss"]


def test_absent_classes_and_empty_slices_have_a_finite_loss() -> None:
    """A normal EMIDEC case has no infarct, and a slice beyond the heart shows nothing."""
    task = heart_task()
    normal, empty, nothing = (HeartCase(scar=True) for _ in range(3))
    normal.raw[np.isin(normal.raw, [6, 9])] = 5
    empty.raw[0] = 0
    empty.image[0] = -1
    nothing.raw[:] = 0
    nothing.image[:] = -1
    for case in (normal, empty, nothing):
        model = task.build("nave", 1)
        losses = task.step(model, one(task, case, site="nave"), task.optimisers(model))
        assert all(torch.isfinite(value) for value in losses.values())
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_a_class_that_a_site_does_not_label_is_neither_rewarded_nor_punished() -> None:
    """Moving probability between background and RV changes nothing where RV is not outlined."""
    sites = {"ivy": {"labels": {"LV": 1, "MYO": 2, "RV": 3}}, "oak": {"labels": {"LV": 1, "MYO": 2}}}
    task = heart_task(sites, classes=("LV", "MYO", "RV"))
    for site, free in (("oak", True), ("ivy", False)):
        (batch,) = one(task, HeartCase(), site=site)
        p = torch.rand(1, 4, *batch.labels.shape[1:], generator=torch.Generator().manual_seed(0))
        p = (p / p.sum(1, keepdim=True)).double()
        swap = torch.zeros_like(p, requires_grad=True)
        moved = torch.cat([p[:, :1] + swap[:, :1], p[:, 1:3], p[:, 3:] - swap[:, :1]], dim=1)
        (task._losses(moved.log(), batch)["segmentation"]).backward()
        assert swap.grad is not None
        assert (swap.grad.abs().max() < 1e-7) == free


def test_a_batch_of_two_is_the_mean_of_two() -> None:
    """Also of two depths: nothing is padded, and samples do not see one another."""
    task = heart_task()
    for cases in (
        [HeartCase(seed=0), HeartCase(seed=1)],
        [HeartCase(seed=0), HeartCase(seed=1, shape=(2, 24, 24))],
    ):
        gradients = []
        for group in (cases, cases[:1], cases[1:]):
            model = task.build("ivy", 1)
            losses = task.step(model, one(task, *group), {"none": torch.optim.SGD(model.parameters(), 0.0)})
            gradients.append([p.grad.clone() for p in model.parameters()] + [losses["segmentation"]])
        for both, first, second in zip(*gradients, strict=True):
            torch.testing.assert_close(both, (first + second) / 2, atol=2e-6, rtol=1e-3)


def test_a_pooled_step_trains_the_heads_of_its_volumes_only() -> None:
    task = heart_task()
    model = task.build(None, 1)
    before = states(model)
    task.step(model, one(task, HeartCase(scar=True), site="nave"), task.optimisers(model))
    after = states(model)
    for kind in ("weight", "bias"):
        assert torch.equal(
            after[f"segmenter.heads.LV-MYO-RV.{kind}"], before[f"segmenter.heads.LV-MYO-RV.{kind}"]
        )
        assert not torch.equal(
            after[f"segmenter.heads.LV-MYO-scar.{kind}"], before[f"segmenter.heads.LV-MYO-scar.{kind}"]
        )


def test_a_pooled_round_trains_all_heads_and_validates() -> None:
    task = heart_task(training={"batch_size": 2})
    model = task.build(None, 1)
    before = states(model)
    data = task.pool(
        [task.data("ivy", [HeartCase()]), task.data("nave", [HeartCase(scar=True, shape=(3, 24, 24))])]
    )
    losses = task.fit(model, data, EFFORT, task.optimisers(model))
    assert all(np.isfinite(list(losses.values())))
    assert not any(
        torch.equal(tensor, before[name]) for name, tensor in states(model).items() if "heads" in name
    )
    assert set(task.validate(model, data, 4, seed=0)) == {"dice", "loss"}
