"""Dice and cross-entropy: worked numbers, absent classes, and classes that a site does not label."""

import math

import pytest
import torch

from polysite.losses.annotation import labelled_as, relabel
from polysite.losses.supervised import cross_entropy, dice_loss

CLASSES = ["background", "LV", "MYO", "RV", "infarct", "no-reflow"]
PARTS = {"infarct": "MYO", "no-reflow": "infarct"}
LOSSES = [cross_entropy, dice_loss]


def logits_of(*voxels: list[float]) -> torch.Tensor:
    """Logits (1, class, 1, 1, voxel) with these probabilities."""
    return torch.tensor(voxels).t().log()[None, :, None, None, :]


def labels_of(*voxels: int) -> torch.Tensor:
    return torch.tensor(voxels)[None, None, None, :]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_labels(*shape: int, n_classes: int = 6) -> torch.Tensor:
    return torch.randint(n_classes, shape, generator=torch.Generator().manual_seed(1))


def test_cross_entropy_is_minus_y_log_p():
    loss = cross_entropy(logits_of([0.7, 0.2, 0.1], [0.25, 0.5, 0.25]), labels_of(0, 2))
    assert loss.item() == pytest.approx(-(math.log(0.7) + math.log(0.25)) / 2, abs=1e-6)


def test_cross_entropy_with_its_arguments_swapped_would_be_another_number():
    """-Σ p log(y + 1e-6), the release's order, is 4.145 here, and 0 only for p = y."""
    loss = cross_entropy(logits_of([0.7, 0.2, 0.1]), labels_of(0))
    assert loss.item() == pytest.approx(0.35667, abs=1e-5)


def test_dice_of_worked_numbers():
    loss = dice_loss(logits_of([0.5, 0.5], [0.25, 0.75]), labels_of(0, 1))
    background = (2 * 0.5 + 1) / (0.75 + 1 + 1)
    object_ = (2 * 0.75 + 1) / (1.25 + 1 + 1)
    assert loss.item() == pytest.approx(1 - (background + object_) / 2, abs=1e-6)
    smoother = dice_loss(logits_of([0.5, 0.5], [0.25, 0.75]), labels_of(0, 1), smooth=1e6)
    assert smoother.item() < 1e-5


def test_a_perfect_segmentation_costs_nothing():
    labels = random_labels(2, 3, 4, 5)
    logits = 40 * torch.nn.functional.one_hot(labels, 6).movedim(-1, 1).float()
    assert cross_entropy(logits, labels) < 1e-6
    assert dice_loss(logits, labels) < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "labels",
    [torch.zeros(1, 3, 4, 5, dtype=torch.int64), random_labels(1, 3, 4, 5, n_classes=3)],
    ids=["empty", "a normal case: no infarct"],
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_absent_classes_give_finite_losses_and_gradients(loss, labels, scale):
    logits = (scale * noise(1, 6, 3, 4, 5)).requires_grad_()
    groups = torch.tensor([labelled_as(CLASSES, ["LV", "MYO"], PARTS)])
    value = loss(logits, labels) + loss(logits, labels, groups)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_site_that_labels_everything_has_the_plain_loss(loss):
    logits, labels = noise(2, 6, 3, 4, 5), random_labels(2, 3, 4, 5)
    groups = torch.tensor([labelled_as(CLASSES, CLASSES, PARTS)] * 2)
    torch.testing.assert_close(loss(logits, labels, groups), loss(logits, labels))


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_found_inside_a_group_is_neither_rewarded_nor_punished(loss):
    """Moving probability between background and RV, or MYO and infarct, where neither pair is told apart."""
    groups = torch.tensor([labelled_as(CLASSES, ["LV", "MYO"], PARTS)])
    labels = labels_of(0, 1, 2)
    certain = [
        [0.6, 0.1, 0.1, 0.1, 0.05, 0.05],
        [0.2, 0.5, 0.1, 0.1, 0.05, 0.05],
        [0.1, 0.1, 0.5, 0.1, 0.1, 0.1],
    ]
    moved = [
        [0.1, 0.1, 0.05, 0.6, 0.1, 0.05],
        [0.1, 0.5, 0.05, 0.2, 0.05, 0.1],
        [0.0999, 0.1, 0.1, 0.1001, 0.3, 0.3],
    ]
    one, other = (loss(logits_of(*voxels), labels, groups) for voxels in (certain, moved))
    torch.testing.assert_close(one, other)
    assert (loss(logits_of(*certain), labels) - loss(logits_of(*moved), labels)).abs() > 0.01


def test_marginal_cross_entropy_of_worked_numbers():
    groups = torch.tensor([labelled_as(CLASSES, ["LV", "MYO"], PARTS)])
    p = [0.3, 0.1, 0.2, 0.15, 0.05, 0.2]
    for label, mass in ((0, 0.3 + 0.15), (1, 0.1), (2, 0.2 + 0.05 + 0.2)):
        loss = cross_entropy(logits_of(p), labels_of(label), groups)
        assert loss.item() == pytest.approx(-math.log(mass), abs=1e-5)


def test_dice_is_the_mean_over_labelled_classes_only():
    groups = torch.tensor([labelled_as(["background", "LV", "RV"], ["LV"])])
    merged = dice_loss(logits_of([0.6, 0.4], [0.3, 0.7]), labels_of(0, 1))
    loss = dice_loss(logits_of([0.1, 0.4, 0.5], [0.2, 0.7, 0.1]), labels_of(0, 1), groups)
    torch.testing.assert_close(loss, merged)


@pytest.mark.parametrize("loss", LOSSES)
def test_samples_of_different_sites_keep_their_own_groups(loss):
    logits, labels = noise(2, 6, 3, 4, 5), random_labels(2, 3, 4, 5, n_classes=3)
    groups = torch.tensor(
        [labelled_as(CLASSES, names, PARTS) for names in (["LV", "MYO", "RV"], ["LV", "infarct"])]
    )
    alone = [loss(logits[i : i + 1], labels[i : i + 1], groups[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(logits, labels, groups), sum(alone) / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_label_that_the_site_claims_not_to_have_counts_as_its_group(loss):
    groups = torch.tensor([labelled_as(CLASSES, ["LV", "MYO", "RV"], PARTS)])
    stray, meant = labels_of(0, 4, 5, 3), labels_of(0, 2, 2, 3)
    assert torch.equal(relabel(stray, groups), meant)
    logits = noise(1, 6, 1, 1, 4)
    assert torch.equal(loss(logits, stray, groups), loss(logits, meant, groups))


def test_half_precision_logits_are_summed_in_full():
    logits, labels = noise(1, 6, 3, 4, 5).bfloat16(), random_labels(1, 3, 4, 5)
    for loss in LOSSES:
        assert loss(logits, labels).dtype == torch.float32
        torch.testing.assert_close(loss(logits, labels), loss(logits.float(), labels))


def test_groups_of_mistaken_names_are_refused():
    with pytest.raises(ValueError, match="'lv' is not one of the classes"):
        labelled_as(CLASSES, ["lv"])
    with pytest.raises(ValueError, match="'MYO' is part of 'infarct', which must come before"):
        labelled_as(CLASSES, ["LV"], {"MYO": "infarct"})
