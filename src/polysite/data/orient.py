"""Canonical orientation: axes to the nearest of right, anterior, superior. Flips and permutes, nothing else."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Orientation = NDArray[np.float64]


def orientation_of(affine: NDArray[np.float64]) -> Orientation:
    """For each axis of the array, which canonical axis it is nearest to and in which direction.

    Shape (3, 2) as in `nibabel.orientations`: axis number, and 1 or -1.
    """
    from nibabel.orientations import io_orientation

    orientation: Orientation = io_orientation(affine)
    return orientation


def to_canonical(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """An array (x, y, z) with its axes in canonical order and direction."""
    from nibabel.orientations import apply_orientation

    return np.ascontiguousarray(apply_orientation(array, orientation))


def from_canonical(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """The exact inverse of `to_canonical`."""
    axes = orientation[:, 0].astype(int)
    stored = np.transpose(array, axes)
    flipped = tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in orientation[:, 1])
    return np.ascontiguousarray(stored[flipped])


def canonical_affine(
    affine: NDArray[np.float64], orientation: Orientation, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """The affine of the canonical array; `shape` is that of the array as stored."""
    from nibabel.orientations import inv_ornt_aff

    canonical: NDArray[np.float64] = affine @ inv_ornt_aff(orientation, shape[:3])
    return canonical
