"""Orientation of the axes: flips and permutes, nothing else, so that the way back is exact.

Canonical axes are the nearest to right, anterior, superior. Slice axes put the slices of an oblique stack in z,
where the nearest canonical axis would change from subject to subject.
"""

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


def slices_of(affine: NDArray[np.float64], shape: tuple[int, ...] = ()) -> Orientation:
    """As `orientation_of`, with z across the slices.

    The slice axis is that of the largest spacing (of equal ones, within 1 %, the last); in a single slice the one
    axis of length 1, if the array's `shape` is given, whatever thickness the header says. Of the two others y is the
    one that rather points up (to superior; in axial slices to anterior), x the other, pointing rather to the right
    and front; z makes the three right-handed, so that no anatomy is mirrored. Axial, coronal and sagittal slices thus
    stand as they are looked at, and the heart's short axis has the inferior wall low, the free wall of the left
    ventricle on one side, and its apex first, however the scanner stored it.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    single = [axis for axis, n in enumerate(shape[:3]) if n == 1]
    slices = single[0] if len(single) == 1 else int(np.flatnonzero(spacing >= 0.99 * spacing.max())[-1])
    upward = _UP @ axes
    y = max((axis for axis in range(3) if axis != slices), key=lambda axis: abs(upward[axis]))
    x = 3 - slices - y
    signs = np.ones(3)
    signs[y] = -1 if upward[y] < 0 else 1
    signs[x] = -1 if _RIGHT @ axes[:, x] < 0 else 1
    across = np.cross(signs[x] * axes[:, x], signs[y] * axes[:, y])
    signs[slices] = -1 if across @ axes[:, slices] < 0 else 1
    places = np.empty(3)
    places[[x, y, slices]] = 0, 1, 2
    return np.column_stack([places, signs])


_UP = np.array([0.0, 0.4, 1.0])
"""0.4: an axial slice may be tilted by 23 degrees to either side, and a sagittal one, before its axes change places."""
_RIGHT = np.array([1.0, 1.0, 0.0])


def to_canonical(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """An array as stored with its axes in the orientation's order and direction."""
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
    """The affine of the oriented array; `shape` is that of the array as stored."""
    from nibabel.orientations import inv_ornt_aff

    canonical: NDArray[np.float64] = affine @ inv_ornt_aff(orientation, shape[:3])
    return canonical
