"""The mask tells a scanned head from a brain without its skull."""

import numpy as np
import pytest

from heads import grid_affine, head
from polysite.data.mask import foreground

SHAPE, SPACING = (50, 58, 40), (2.0, 2.0, 2.5)
AFFINE = grid_affine(SHAPE, SPACING)


def scanned(contrast: str, noise: float = 15) -> np.ndarray:
    """A head with Rician noise all over, and a bright spot of fat."""
    rng = np.random.default_rng(3)
    volume = head(contrast, SHAPE, AFFINE)
    volume[10:12, 28:30, 18:22] = 6000
    real, imaginary = rng.normal(size=(2, *SHAPE)) * noise
    return np.hypot(volume + real, imaginary).astype(np.float32)


def test_a_head_is_found_whole_in_every_contrast():
    for contrast in ("T1w", "T2w", "FLAIR"):
        mask, kind = foreground(scanned(contrast), np.asarray(SPACING), "foreground")
        truth = head("T1w", SHAPE, AFFINE) > 300
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert kind == "head"
        assert dice > 0.96, contrast
        # the dark ventricles of FLAIR belong to the head
        x, y, z = np.round((np.linalg.inv(AFFINE) @ [7, 4, 6, 1])[:3]).astype(int)
        assert mask[x, y, z]


def test_zeroed_noise_around_a_head_is_not_taken_for_a_removed_skull():
    volume = scanned("T1w", noise=12)
    volume[volume < 25] = 0
    assert foreground(volume, np.asarray(SPACING), "foreground")[1] == "head"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_noise_that_is_stored_as_zero_here_and_there_is_no_removed_skull(share):
    volume = scanned("T1w")
    zeros = np.random.default_rng(0).random(SHAPE) < share
    volume[zeros & (head("T1w", SHAPE, AFFINE) == 0)] = 0
    assert foreground(volume, np.asarray(SPACING), "foreground")[1] == "head"


def test_a_brain_cut_out_is_its_own_mask_with_its_holes_filled():
    volume = scanned("T1w")
    brain = ((np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]) / (35, 42, 32)) ** 2
    inside = brain.sum(-1) < 1
    volume[~inside] = 0
    volume[25, 29, 20] = 0
    mask, kind = foreground(volume, np.asarray(SPACING), "foreground")
    assert kind == "brain"
    np.testing.assert_array_equal(mask, inside)


def test_the_other_kinds():
    volume = np.zeros((4, 4, 4), np.float32)
    volume[1, 1, 1] = -3
    assert foreground(volume, np.ones(3), "nonzero")[0].sum() == 1
    assert foreground(volume, np.ones(3), "none")[0].all()
    assert foreground(np.full((4, 4, 4), 5, np.float32), np.ones(3), "foreground")[0].all()
