"""Worked numbers, agreement with scikit-image, and the traps of stated range and mask."""

import math

import numpy as np
import pytest
from skimage import metrics as reference

from polysite.errors import DataError
from polysite.evaluate.metrics import nrmse, psnr, score_volume, ssim


@pytest.fixture
def pair():
    """A smooth volume and a noisy copy, (24, 20, 4), both in [0, 1]."""
    rng = np.random.default_rng(3)
    x, y, z = np.meshgrid(np.linspace(0, 3, 24), np.linspace(0, 2, 20), np.arange(4), indexing="ij")
    target = 0.5 + 0.4 * np.sin(x + z) * np.cos(y)
    return np.clip(target + rng.normal(0, 0.05, target.shape), 0, 1), target


def test_psnr_of_a_constant_error_is_worked_by_hand():
    target = np.full((4, 4, 2), 0.5)
    assert psnr(target + 0.1, target, data_range=1.0) == pytest.approx(20.0)
    assert psnr(target + 0.1, target, data_range=2.0) == pytest.approx(20.0 + 20 * math.log10(2))


def test_psnr_pools_the_error_and_does_not_average_slices():
    target = np.full((4, 4, 2), 0.5)
    prediction = target.copy()
    prediction[..., 0] += 0.1
    prediction[..., 1] += 0.01
    pooled = 10 * math.log10(1 / ((0.1**2 + 0.01**2) / 2))
    assert psnr(prediction, target, data_range=1.0) == pytest.approx(pooled)
    assert np.mean([20.0, 40.0]) - pooled > 7  # what averaging slices would have claimed


def test_nrmse_is_worked_by_hand():
    target = np.array([[[0.3, 0.4]]])
    prediction = np.array([[[0.3, 0.1]]])
    assert nrmse(prediction, target, data_range=1.0) == pytest.approx(0.3 / 0.5)


def test_equal_volumes_have_perfect_scores(pair):
    score = score_volume(pair[1], pair[1], data_range=1.0)
    assert (score.psnr_db, score.ssim, score.nrmse) == (math.inf, pytest.approx(1.0), 0.0)
    assert score.n_voxels == pair[1].size


def test_without_a_mask_all_agree_with_scikit_image(pair):
    prediction, target = pair
    score = score_volume(prediction, target, data_range=1.0)
    assert score.psnr_db == pytest.approx(
        reference.peak_signal_noise_ratio(target, prediction, data_range=1.0)
    )
    assert score.nrmse == pytest.approx(reference.normalized_root_mse(target, prediction))
    slices = [
        reference.structural_similarity(
            target[..., k],
            prediction[..., k],
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for k in range(target.shape[2])
    ]
    assert score.ssim == pytest.approx(np.mean(slices), abs=1e-12)


def test_a_mask_of_the_interior_gives_the_value_without_a_mask(pair):
    prediction, target = pair
    interior = np.zeros(target.shape, bool)
    interior[5:-5, 5:-5] = True  # scikit-image leaves this border out of its mean
    masked = ssim(prediction, target, data_range=1.0, mask=interior)
    assert masked == pytest.approx(ssim(prediction, target, data_range=1.0), abs=1e-12)


def test_what_lies_outside_the_mask_does_not_count(pair):
    prediction, target = pair
    mask = np.zeros(target.shape, bool)
    mask[:, :, 1] = True
    spoiled = prediction.copy()
    spoiled[:, :, 3] = 0
    assert score_volume(spoiled, target, data_range=1.0, mask=mask) == score_volume(
        prediction, target, data_range=1.0, mask=mask
    )
    assert score_volume(prediction, target, data_range=1.0, mask=mask).n_voxels == 24 * 20


def test_every_voxel_of_the_mask_counts_once_in_ssim(pair):
    prediction, target = pair
    mask = np.zeros(target.shape, bool)
    mask[:, :, 0] = True
    mask[8:12, 8:12, 2] = True
    first, second = mask.copy(), mask.copy()
    first[:, :, 2] = False
    second[:, :, 0] = False
    parts = [ssim(prediction, target, data_range=1.0, mask=part) for part in (first, second)]
    expected = np.average(parts, weights=[first.sum(), second.sum()])
    assert ssim(prediction, target, data_range=1.0, mask=mask) == pytest.approx(expected)


def test_the_slice_axis_is_the_callers(pair):
    prediction, target = pair
    turned = ssim(np.moveaxis(prediction, 2, 0), np.moveaxis(target, 2, 0), data_range=1.0, slice_axis=0)
    assert turned == pytest.approx(ssim(prediction, target, data_range=1.0))


def test_ssim_is_not_invariant_to_shifts_so_a_shifted_volume_is_refused(pair):
    prediction, target = pair
    too_dark, dark = 0.1 * prediction, 0.4 * target
    lifted = ssim(too_dark + 0.5, dark + 0.5, data_range=1.0)
    assert lifted - ssim(too_dark, dark, data_range=1.0) > 0.1  # the shift hides the wrong brightness
    with pytest.raises(DataError, match=r"outside the stated range \[0, 2\].*\(x \+ 1\) / 2"):
        ssim(2 * prediction - 1, 2 * target - 1, data_range=2.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"prediction": np.zeros((16, 16, 2))},
            r"prediction has shape \(16, 16, 2\) but the target \(16, 16, 3\)",
        ),
        ({"mask": np.ones((16, 16), bool)}, "mask has shape"),
        ({"mask": np.zeros((16, 16, 3), bool)}, "mask is empty"),
        ({"prediction": np.full((16, 16, 3), np.nan)}, "prediction has values that are not finite"),
        ({"target": np.full((16, 16, 3), np.inf)}, "target has values that are not finite"),
        ({"target": np.full((16, 16, 3), 1.5)}, "target has values from 1.5 to 1.5"),
        ({"target": np.zeros((16, 16, 3))}, "0 everywhere inside the mask"),
        ({"data_range": 0.0}, "data_range must be a positive number, not 0.0"),
        ({"data_range": math.nan}, "data_range must be a positive number"),
    ],
)
def test_a_pair_that_cannot_be_scored_says_why(spoil, message):
    arguments = {
        "prediction": np.full((16, 16, 3), 0.5),
        "target": np.full((16, 16, 3), 0.25),
        "data_range": 1.0,
    }
    arguments |= spoil
    with pytest.raises(DataError, match=message):
        score_volume(arguments.pop("prediction"), arguments.pop("target"), **arguments)


def test_ssim_needs_a_volume_with_slices_as_large_as_its_window():
    with pytest.raises(DataError, match="axes"):
        ssim(np.ones((16, 16)), np.ones((16, 16)), data_range=1.0)
    with pytest.raises(DataError, match="8×16 voxels are smaller"):
        ssim(np.ones((8, 16, 2)), np.ones((8, 16, 2)), data_range=1.0)
