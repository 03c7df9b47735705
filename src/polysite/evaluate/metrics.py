"""PSNR, SSIM and NRMSE of one synthetic volume against the acquired one.

Volumes are mapped to [0, data_range] before they are scored, the range is always stated, and a mask
restricts every metric to the same voxels. A volume has one score: errors are pooled over all its voxels,
because a mean of slice-wise PSNRs is another, larger number that depends on how many slices are empty.
"""

from dataclasses import dataclass
from math import inf, log10, sqrt

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from polysite.errors import DataError

SSIM_SIGMA = 1.5
SSIM_WINDOW = 11
"""Voxels across the Gaussian window: scikit-image cuts it at 3.5 sigma, which is 5 voxels each way."""


@dataclass(frozen=True)
class VolumeScore:
    """The scores of one volume: PSNR in dB, SSIM, NRMSE, and the number of voxels they come from."""

    psnr_db: float
    ssim: float
    nrmse: float
    n_voxels: int


def score_volume(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    data_range: float,
    mask: NDArray[np.bool_] | None = None,
    slice_axis: int = -1,
) -> VolumeScore:
    """All metrics of one volume pair.

    Parameters
    ----------
    prediction, target : array (x, y, z)
        On one grid, values in [0, data_range].
    data_range : float
        The distance between the smallest and the largest value that an image can take, 1 for volumes in
        [0, 1]. It belongs to the scale, not to the pair: never take it from the images.
    mask : bool array (x, y, z), optional
        Voxels to score; all of them by default.
    slice_axis : int
        The axis across the slices, for SSIM's two-dimensional window.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite or outside the range, or the mask is empty.

    Examples
    --------
    >>> target = np.full((16, 16, 3), 0.5)
    >>> score_volume(target + 0.1, target, data_range=1.0).psnr_db.__round__(6)
    20.0
    """
    return VolumeScore(
        psnr_db=psnr(prediction, target, data_range=data_range, mask=mask),
        ssim=ssim(prediction, target, data_range=data_range, mask=mask, slice_axis=slice_axis),
        nrmse=nrmse(prediction, target, data_range=data_range, mask=mask),
        n_voxels=int(target.size if mask is None else np.count_nonzero(mask)),
    )


def psnr(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    data_range: float,
    mask: NDArray[np.bool_] | None = None,
) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(R² / MSE), the squared error pooled over the mask.

    Infinite where the images are equal. Arguments and errors as in `score_volume`, any number of axes.
    """
    first, second, inside = _checked(prediction, target, data_range, mask)
    mse = float(np.mean((first[inside] - second[inside]) ** 2))
    return 10 * log10(data_range**2 / mse) if mse > 0 else inf


def nrmse(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    data_range: float,
    mask: NDArray[np.bool_] | None = None,
) -> float:
    """Root of the squared error over the root of the target's energy, ‖p − t‖ / ‖t‖ inside the mask.

    Its square is fastMRI's NMSE. Arguments and errors as in `score_volume`, any number of axes; a target
    that is zero everywhere inside the mask is an error too.
    """
    first, second, inside = _checked(prediction, target, data_range, mask)
    energy = float(np.sum(second[inside] ** 2))
    if energy == 0:
        raise DataError("the target is 0 everywhere inside the mask, so there is no signal to compare with")
    return sqrt(float(np.sum((first[inside] - second[inside]) ** 2)) / energy)


def ssim(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    data_range: float,
    mask: NDArray[np.bool_] | None = None,
    slice_axis: int = -1,
) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004), per slice, averaged over the mask's voxels.

    Gaussian window with sigma 1.5 voxels, population covariance, K1 = 0.01, K2 = 0.03. The window is
    two-dimensional, inside a slice, because clinical slices are several times thicker than their voxels
    are wide: a cube of voxels would mix anatomy that lies centimetres apart. The map is computed from
    whole slices and then averaged over all voxels of the mask, so that each of them counts once; without a
    mask it is the mean over slices of scikit-image's value, which leaves out a border of 5 voxels.

    SSIM is not invariant to shifts: on [-1, 1] with range 2 the same pair has another, higher value.
    Therefore values outside [0, data_range] are an error. Arguments and errors as in `score_volume`.
    """
    first, second, inside = _checked(prediction, target, data_range, mask)
    if first.ndim != 3:
        raise DataError(f"SSIM needs a volume with axes (x, y, z), not an array of shape {first.shape}")
    first, second = np.moveaxis(first, slice_axis, -1), np.moveaxis(second, slice_axis, -1)
    inside = np.moveaxis(inside, slice_axis, -1)
    if min(first.shape[:2]) < SSIM_WINDOW:
        raise DataError(
            f"slices of {first.shape[0]}×{first.shape[1]} voxels are smaller than SSIM's window of "
            f"{SSIM_WINDOW}×{SSIM_WINDOW}"
        )
    filled = inside.any(axis=(0, 1))
    mean, values = structural_similarity(
        first[..., filled],
        second[..., filled],
        data_range=data_range,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        channel_axis=-1,
        full=True,
    )
    return float(mean if mask is None else values[inside[..., filled]].mean())


def _checked(
    prediction: NDArray[np.floating],
    target: NDArray[np.floating],
    data_range: float,
    mask: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """The pair in double precision and the mask, or the error that says why they cannot be scored."""
    if not (np.isfinite(data_range) and data_range > 0):
        raise DataError(f"data_range must be a positive number, not {data_range!r}")
    inside = np.ones(target.shape, bool) if mask is None else np.asarray(mask).astype(bool)
    for name, shape in (("prediction", prediction.shape), ("mask", inside.shape)):
        if shape != target.shape:
            raise DataError(
                f"the {name} has shape {shape} but the target {target.shape}; bring them to one grid"
            )
    if not inside.any():
        raise DataError("the mask is empty, so there is nothing to score")
    pair = prediction.astype(np.float64), target.astype(np.float64)
    tolerance = 1e-6 * data_range
    for name, values in zip(("prediction", "target"), pair, strict=True):
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(f"the {name} has values that are not finite (NaN or infinite)")
        if low < -tolerance or high > data_range + tolerance:
            raise DataError(
                f"the {name} has values from {low:g} to {high:g}, outside the stated range "
                f"[0, {data_range:g}]; map volumes in [-1, 1] by (x + 1) / 2 and clip before scoring"
            )
    return *pair, inside
