"""The segmentation task: its losses worked out, its steps, its heads, prediction, and what may not happen."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from heart_cases import LABELS, TINY, HeartCase, heart_task
from polysite.config import Component
from polysite.data.frame import about_centre, unframe
from polysite.errors import ConfigError
from polysite.losses.supervised import cross_entropy, dice_loss
from polysite.networks.segmented import Segmented
from polysite.seeds import numpy_stream
from polysite.tasks.augment import Augment
from polysite.tasks.overlap import dice_scores
from polysite.tasks.segmentation import Segmentation, SegmentationModel
from polysite.tasks.task import Effort, Pass
from polysite.tasks.volumes import Batch

EFFORT = Effort(n_steps=2, batch_size=1, rate_factor=1.0, seed=5)
UNET = Component(name="unet", width=8)
PARTIAL = {
    "ivy": {"labels": {"LV": 1, "MYO": 2, "RV": 3}, "part_of": {"scar": "MYO"}},
    "nave": {"labels": {"LV": 7, "MYO": 5, "scar": (6, 9)}},
}


def states(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def one(task: Segmentation, *cases: HeartCase, site: str = "ivy") -> tuple[Batch, ...]:
    """What a step sees of these cases, all at once."""
    return next(task.data(site, cases).batches(numpy_stream(0), None, len(cases)))


def trained(task: Segmentation, effort: Effort = EFFORT, **how: Any) -> tuple[SegmentationModel, dict]:
    model = task.build("ivy", 1)
    data = task.data("ivy", [HeartCase(seed=seed) for seed in range(3)])
    return model, task.fit(model, data, effort, task.optimisers(model), **how)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


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


# --- rounds -------------------------------------------------------------------------------------------


def test_a_round_is_decided_by_its_seed() -> None:
    task = heart_task(augment=Augment(noise=1))
    (one_, losses), (again, same_losses) = trained(task), trained(task)
    assert losses == same_losses
    assert same(states(one_), states(again))
    other, _ = trained(task, Effort(n_steps=2, batch_size=1, rate_factor=1.0, seed=6))
    assert not same(states(one_), states(other))


def test_what_a_method_adds_is_added() -> None:
    """A penalty pulls by its own gradient, once a step however many kinds of volumes it has."""
    task = heart_task()
    model = task.build("ivy", 1)
    batches = one(task, HeartCase(seed=0), HeartCase(seed=1, shape=(2, 24, 24)))
    assert len(batches) == 2
    gradients = []
    for penalty in (None, lambda model: sum(p.sum() for p in model.parameters())):
        task.step(model, batches, {"none": torch.optim.SGD(model.parameters(), 0.0)}, penalty)
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, with_penalty in zip(*gradients, strict=True):
        torch.testing.assert_close(with_penalty, plain + 1, atol=1e-5, rtol=0)


def test_a_guide_sees_the_pass_and_the_same_volumes_through_other_values() -> None:
    task = heart_task()
    teacher = {name: tensor + 0.01 for name, tensor in states(task.build("ivy", 1)).items()}
    seen = []

    def guide(look: Pass) -> torch.Tensor:
        assert isinstance(look.output, Segmented)
        other, own = look.again(teacher), look.again({})
        seen.append((look.output, other, own))
        return (look.output.logits - other.logits).square().mean() * 0.0

    (plain, losses), (guided, same_losses) = trained(task), trained(task, guide=guide)
    assert losses == same_losses
    assert same(states(plain), states(guided))
    assert len(seen) == EFFORT.n_steps
    for output, other, own in seen:
        assert set(output.features) == {"global", "local"}
        assert output.logits.requires_grad
        assert not other.logits.requires_grad
        assert torch.equal(own.logits, output.logits)
        assert not torch.equal(other.logits, output.logits)


def test_a_guide_counts_as_the_mean_over_volumes() -> None:
    task = heart_task()
    batches = one(task, *(HeartCase(seed=s, shape=(d, 24, 24)) for s, d in ((0, 4), (1, 4), (2, 2))))
    gradients = []
    for guide in (None, lambda look: len(look.output.logits) * look.output.logits.mean()):
        model = task.build("ivy", 1)
        task.step(model, batches, {"none": torch.optim.SGD(model.parameters(), 0.0)}, guide=guide)
        gradients.append(model.segmenter.heads["LV-MYO-RV"].bias.grad.clone())
    # mean logits have gradient 1/4 by each bias; shares 2/3 and 1/3, values 2 and 1
    torch.testing.assert_close(gradients[1] - gradients[0], torch.full((4,), (4 / 3 + 1 / 3) / 4))


def test_only_some_parameters_and_after_every_step() -> None:
    task = heart_task()
    calls: list[int] = []
    start = states(task.build("ivy", 1))
    heads = {name for name in start if ".heads." in name}
    model, _ = trained(task, only=heads, after_step=lambda model: calls.append(1))
    assert len(calls) == EFFORT.n_steps
    changed = {name for name, tensor in states(model).items() if not torch.equal(tensor, start[name])}
    assert changed == heads


# --- use ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 24, 24), (3, 37, 29), (1, 9, 40)])
def test_a_prediction_is_the_network_on_the_training_window_and_background_elsewhere(
    shape: tuple[int, int, int],
) -> None:
    task, case = heart_task(), HeartCase(shape=shape, labelled=False)
    model = task.build("ivy", 1)
    found = task.predict(model, case, "ivy")
    assert found.shape == (4, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    window = about_centre(shape, task.settings.image_size)
    volume = case.image.astype(np.float32)
    image = torch.from_numpy(window.cut(volume, fill=float(volume.min())))[None, None]
    with torch.no_grad():
        expected = model.segmenter(image, "LV-MYO-RV").logits.softmax(1)[0]
    seen = window.cut(np.ones(shape, np.float32), fill=0.0) > 0
    assert np.array_equal(window.cut(found, fill=0.0)[:, seen], expected.numpy()[:, seen])
    outside = unframe(np.zeros(expected.shape[1:], np.float32), window) < 0
    assert (found[0, outside] == 1).all()
    assert not found[1:, outside].any()
    assert np.array_equal(found, task.predict(model, case, "ivy"))


def test_a_volume_below_the_networks_least_size_is_padded() -> None:
    task, case = heart_task(), HeartCase(shape=(3, 7, 20))
    found = task.predict(task.build("ivy", 1), case, "ivy")
    assert found.shape == (4, 3, 7, 20)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_windows_cover_a_large_volume_and_one_that_is_large_enough_is_none() -> None:
    task, case = heart_task(window=(16, 24)), HeartCase(shape=(3, 37, 29))
    model = task.build("ivy", 1)
    found = task.predict(model, case, "ivy")
    assert found.shape == (4, 3, 37, 29)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert np.array_equal(found, task.predict(model, case, "ivy"))
    whole = heart_task(image_size=(37, 29)).predict(model, case, "ivy")
    assert not np.array_equal(found, whole)
    assert np.array_equal(heart_task(window=40).predict(model, case, "ivy"), whole)

    class Constant(torch.nn.Module):
        min_size = 8

        def forward(self, image: torch.Tensor, head: str) -> Segmented:
            assert image.shape[2:] == (3, 16, 24)
            return Segmented(
                torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4]))
                .view(1, 4, 1, 1, 1)
                .expand(1, 4, *image.shape[2:]),
                {},
            )

    model.segmenter = Constant()
    np.testing.assert_allclose(
        task.predict(model, case, "ivy"),
        np.full((4, 3, 37, 29), 0.1) * np.arange(1, 5)[:, None, None, None],
        atol=1e-6,
    )


def test_predicting_and_validating_change_nothing() -> None:
    task = heart_task()
    model = task.build("ivy", 1)
    before = copy.deepcopy(states(model))
    data = task.data("ivy", [HeartCase()])
    assert task.validate(model, data, 4, seed=1) == task.validate(model, data, 4, seed=1)
    task.predict(model, HeartCase(), "ivy")
    assert same(before, states(model))


def test_validation_of_a_network_that_knows_the_answer() -> None:
    task, case = heart_task(), HeartCase()
    labels = torch.from_numpy(case.raw.astype(np.int64))

    class Oracle(torch.nn.Module):
        def forward(self, image: torch.Tensor, head: str) -> Segmented:
            return Segmented(50.0 * torch.nn.functional.one_hot(labels, 4).movedim(3, 0)[None].float(), {})

    got = task.validate(SegmentationModel(Oracle()), task.data("ivy", [case]), 4, seed=0)
    assert got["dice"] == 1
    assert got["loss"] < 1e-3


def test_dice_of_what_a_site_labels() -> None:
    labels = torch.tensor([0, 0, 1, 2]).reshape(1, 1, 1, 4)
    found = torch.nn.functional.one_hot(torch.tensor([3, 0, 1, 3]), 4).float().T.reshape(1, 4, 1, 1, 4)
    assert dice_scores(found, labels).tolist() == [1.0, 0.0, 0.0]
    assert dice_scores(found, labels, torch.tensor([[0, 1, 2, 0]])).tolist() == [1.0, 0.0]
    as_muscle = torch.tensor([[0, 1, 2, 2]])  # class 3 is part of class 2 here
    assert dice_scores(found, labels, as_muscle).tolist() == pytest.approx([1.0, 2 / 3])


def test_bfloat16_is_close_to_float32() -> None:
    found = [
        heart_task(training={"precision": precision, "channels_last": last})
        for precision, last in (("float32", False), ("bfloat16", False), ("bfloat16", True))
    ]
    made = [task.predict(task.build("ivy", 1), HeartCase(), "ivy") for task in found]
    for rough in made[1:]:
        assert 0 < np.abs(rough - made[0]).max() < 0.05
    _, losses = trained(found[1])
    _, exact = trained(found[0])
    assert losses["segmentation"] == pytest.approx(exact["segmentation"], rel=0.05)
