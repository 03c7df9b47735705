"""What a scanner does to the ideal signal: sampling, bias field, noise, gain, and a patient who moves.

Each effect is one function; those that draw take a NumPy generator, the others change nothing by chance.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.phantom.anatomy import Grid, rotation
from polysite.phantom.shapes import Array


def acquire(signal: Array, grid: Grid, target: Grid, width_mm: Sequence[float]) -> Array:
    """The mean of a signal over each voxel of another grid with parallel axes; 0 outside the signal.

    Parameters
    ----------
    signal : float32 array (x, y, z)
        On `grid`.
    width_mm : (x, y, z)
        Size of the box over which a voxel averages. It may exceed the voxel: thick slices that overlap.
    """
    for axis, width in enumerate(width_mm):
        matrix = _box_means(grid.axes()[axis], grid.step_mm[axis], target.axes()[axis], width)
        signal = np.moveaxis(np.tensordot(matrix, signal, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(signal, dtype=np.float32)


def _box_means(source_mm: Array, step_mm: float, target_mm: Array, width_mm: float) -> Array:
    """Matrix (target, source) of the mean over boxes of a signal that is constant in each source voxel.

    A box is taken at least one source voxel wide, so that a finer target is interpolated linearly.
    """
    width = max(width_mm, step_mm)
    apart = np.abs(target_mm[:, None].astype(np.float64) - source_mm[None, :])
    overlap = np.clip(0.5 * (width + step_mm) - apart, 0, step_mm)
    return np.asarray(overlap / width, dtype=np.float32)


def move(signal: Array, grid: Grid, motion: NDArray[np.float64]) -> Array:
    """A signal as it lies after a rigid motion, on the same grid: at p what was at ``motion @ p`` (RAS mm)."""
    to_index = np.linalg.inv(grid.affine) @ motion @ grid.affine
    moved = ndimage.affine_transform(
        signal, to_index[:3, :3], to_index[:3, 3], order=1, mode="constant", output=np.float32
    )
    return np.asarray(moved)


def draw_motion(
    rng: np.random.Generator, *, shift_mm: float = 0.3, turn_deg: float = 0.3
) -> NDArray[np.float64]:
    """A small rigid motion about the scanner's centre, (4, 4) in mm, normal with these standard deviations."""
    motion = np.eye(4)
    motion[:3, :3] = rotation(rng.normal(0, turn_deg, 3).tolist())
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
    weights = rng.standard_normal((4, 4, 4)) * np.where(
        (orders > 0) & (orders < 4), 1 / np.maximum(orders, 1), 0
    )
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


def add_real_noise(signal: Array, rng: np.random.Generator, *, sigma: float) -> Array:
    """A signal with Gaussian noise, as in the real channel of a phase-sensitive image."""
    noise = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)
    return np.asarray(signal + noise, dtype=np.float32)


def draw_gain(rng: np.random.Generator, gain: float) -> float:
    """A receiver gain near the site's own, other in every examination (log standard deviation 0.15)."""
    return float(gain * np.exp(rng.normal(0, 0.15)))
