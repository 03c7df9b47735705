"""What a scanner does to the ideal signal: sampling, bias field, noise, gain, and a patient who moves.

Each effect is one function; those that draw take a NumPy generator, the others change nothing by chance.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.phantom.anatomy import Grid
from polysite.phantom.shapes import Array


def blur_to(signal: Array, grid: Grid, resolution_mm: Sequence[float]) -> Array:
    """Average over the voxel that is acquired: a box of `resolution_mm` along each axis.

    A box narrower than the grid's own step is left out; a fractional width is met exactly, with partial
    weights at the two ends.
    """
    blurred = signal
    for axis, (width, step) in enumerate(zip(resolution_mm, grid.step_mm, strict=True)):
        taps = _box_weights(width / step)
        if len(taps) > 1:
            blurred = ndimage.correlate1d(blurred, taps, axis=axis, mode="nearest")
    return np.asarray(blurred, dtype=np.float32)


def _box_weights(width: float) -> NDArray[np.float64]:
    """Weights of a centred box `width` samples wide, an odd number of them.

    >>> _box_weights(2.0).tolist()
    [0.25, 0.5, 0.25]
    """
    if width <= 1:
        return np.ones(1)
    reach = int(np.ceil((width - 1) / 2))
    edges = np.abs(np.arange(-reach, reach + 1))
    weights = np.clip(width / 2 - (edges - 0.5), 0, 1)
    return np.asarray(weights / weights.sum())


def sample(signal: Array, grid: Grid, target: Grid, motion: NDArray[np.float64] | None = None) -> Array:
    """The signal at the voxel centres of another grid, by linear interpolation; 0 outside.

    Parameters
    ----------
    signal : float32 array (x, y, z)
        On `grid`, already blurred to the target's resolution.
    motion : (4, 4) float64, optional
        Scanner mm of the target to scanner mm of the signal: where the patient lay meanwhile.
    """
    to_index = np.linalg.inv(grid.affine) @ (np.eye(4) if motion is None else motion) @ target.affine
    moved = ndimage.affine_transform(
        signal, to_index[:3, :3], to_index[:3, 3], output_shape=target.shape, order=1, mode="constant"
    )
    return np.asarray(moved, dtype=np.float32)


def draw_motion(rng: np.random.Generator, *, shift_mm: float = 0.3, turn_deg: float = 0.3) -> NDArray[np.float64]:
    """A small rigid motion about the scanner's centre, (4, 4) in mm, normal with these standard deviations."""
    a, b, c = np.deg2rad(rng.normal(0, turn_deg, 3))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    motion = np.eye(4)
    motion[:3, :3] = about_z @ about_y @ about_x
    motion[:3, 3] = rng.normal(0, shift_mm, 3)
    return motion


def draw_bias(rng: np.random.Generator, grid: Grid, *, strength: float) -> Array:
    """A receive coil's smooth sensitivity: positive, mean 1, log standard deviation `strength`.

    The logarithm is a random sum of the cosines with at most one and a half periods over 260 mm,
    so it is drawn in mm and does not depend on the grid.

    Returns
    -------
    float32 array (x, y, z)
    """
    bases = []
    for coordinates in grid.axes():
        phase = np.pi * (coordinates / 260 + 0.5)
        bases.append(np.stack([np.cos(k * phase) for k in range(4)]))
    orders = np.add.outer(np.add.outer(np.arange(4), np.arange(4)), np.arange(4))
    weights = rng.standard_normal((4, 4, 4)) * np.where((orders > 0) & (orders < 4), 1 / np.maximum(orders, 1), 0)
    field = np.einsum("ijk,ix,jy,kz->xyz", weights, *bases, optimize=True)
    field *= strength / max(float(field.std()), 1e-12)
    bias = np.exp(field - field.max())
    return np.asarray(bias / bias.mean(), dtype=np.float32)


def add_rician_noise(signal: Array, rng: np.random.Generator, *, sigma: float) -> Array:
    """Magnitude of a complex signal with Gaussian noise of standard deviation `sigma` in both channels.

    S = |s + n1 + i n2|. Without signal it is Rayleigh distributed with mean sigma sqrt(pi / 2); far above
    the noise it is normal with mean sqrt(s^2 + sigma^2) (Gudbjartsson and Patz, Magn Reson Med 34:910, 1995).
    """
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(signal + noise[0], noise[1]), dtype=np.float32)


def draw_gain(rng: np.random.Generator, gain: float) -> float:
    """A receiver gain near the site's own, other in every examination (log standard deviation 0.15)."""
    return float(gain * np.exp(rng.normal(0, 0.15)))
