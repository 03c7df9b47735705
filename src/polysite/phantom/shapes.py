"""Solid shapes as distances: millimetres to the surface, positive inside.

Shapes are functions of head coordinates, not of voxels, so the same head can be drawn on any grid.
Coordinates come as a tuple ``(x, y, z)`` of float32 arrays of one shape, in mm.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Points = tuple[Array, Array, Array]
Box = tuple[slice, ...]


def ellipsoid(
    points: Points, centre: Sequence[float], radii: Sequence[float], *, power: float = 2.0
) -> Array:
    """Depth inside an ellipsoid, or inside a boxier superellipsoid for `power` above 2.

    First-order distance: the implicit function |(p - c) / r|_power - 1 over the length of its gradient;
    exact on the surface and for a sphere, within a few per cent at the depths that are used here.

    >>> x = np.array([0.0, 4.0, 7.0], dtype=np.float32)
    >>> ellipsoid((x, 0 * x, 0 * x), (0, 0, 0), (5, 5, 5)).round(3).tolist()
    [5.0, 1.0, -2.0]
    """
    scaled = [np.abs(p - c) / np.float32(r) for p, c, r in zip(points, centre, radii, strict=True)]
    if power == 2.0:
        slopes = scaled
        level = np.sqrt(sum(s * s for s in scaled))
    else:
        slopes = [s ** np.float32(power - 1) for s in scaled]
        level = sum(s * g for s, g in zip(scaled, slopes, strict=True)) ** np.float32(1 / power)
        slopes = [g * np.maximum(level, 1e-3) ** np.float32(2 - power) for g in slopes]
    steepness = np.sqrt(sum((g / np.float32(r)) ** 2 for g, r in zip(slopes, radii, strict=True)))
    # at the very centre the gradient vanishes; the depth there is the smallest radius
    depth = np.minimum((1 - level) * level / np.maximum(steepness, 1e-9), np.float32(min(radii)))
    return np.where(level < 1e-3, np.float32(min(radii)), depth).astype(np.float32)


def tube(points: Points, path: Sequence[Sequence[float]], *, stretch: Sequence[float] = (1, 1, 1)) -> Array:
    """Depth inside a tube along a broken line; each corner of `path` is (x, y, z, radius) in mm.

    `stretch` widens the tube along an axis (2: twice as wide there).
    """
    p = [axis / np.float32(s) for axis, s in zip(points, stretch, strict=True)]
    corners = np.array(path, dtype=np.float32)
    corners[:, :3] /= np.asarray(stretch, dtype=np.float32)
    depth: Array | None = None
    for start, end in pairwise(corners):
        along = end[:3] - start[:3]
        length_2 = max(float(along @ along), 1e-6)
        t = sum((axis - s) * a for axis, s, a in zip(p, start[:3], along, strict=True)) / np.float32(length_2)
        t = np.clip(t, 0, 1)
        distance_2 = sum((axis - s - t * a) ** 2 for axis, s, a in zip(p, start[:3], along, strict=True))
        part = start[3] + t * (end[3] - start[3]) - np.sqrt(distance_2)
        depth = part if depth is None else np.maximum(depth, part)
    if depth is None:
        raise ValueError("a tube needs at least two corners")
    return depth.astype(np.float32)


def sheet(offset: Array, *beyond: Array) -> Array:
    """Distance to a piece of a surface: `offset` mm off it, and `beyond` mm past each of its rims."""
    squared = offset * offset
    for rim in beyond:
        past = np.maximum(rim, 0)
        squared = squared + past * past
    return np.asarray(np.sqrt(squared), dtype=np.float32)


def union(first: Array, second: Array, *, blend_mm: float = 0.0) -> Array:
    """Both shapes; `blend_mm` rounds the seam between them (polynomial smooth maximum)."""
    if blend_mm <= 0:
        return np.asarray(np.maximum(first, second), dtype=np.float32)
    overlap = np.maximum(blend_mm - np.abs(first - second), 0)
    blended = np.maximum(first, second) + overlap * overlap * np.float32(0.25 / blend_mm)
    return np.asarray(blended, dtype=np.float32)


def common(first: Array, second: Array, *, blend_mm: float = 0.0) -> Array:
    """What lies in both shapes, the edge rounded by `blend_mm`."""
    return -union(-first, -second, blend_mm=blend_mm)


def membership(depth: Array, voxel_mm: float) -> Array:
    """Fraction of a voxel that lies inside: a plane edge seen through a voxel `voxel_mm` wide.

    >>> membership(np.array([-1.0, 0.0, 0.25, 1.0]), 1.0).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    return np.asarray(np.clip(0.5 + depth * np.float32(1 / voxel_mm), 0, 1), dtype=np.float32)


def box_between(points: Points, low: Sequence[float], high: Sequence[float]) -> Box:
    """The smallest block of the grid with all points between two corners."""
    within = np.ones(points[0].shape, dtype=bool)
    for p, a, b in zip(points, low, high, strict=True):
        within &= (p >= a) & (p <= b)
    box = []
    for axis in range(3):
        hit = np.flatnonzero(within.any(axis=tuple(k for k in range(3) if k != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0))
    return tuple(box)


def cut(points: Points, box: Box) -> Points:
    """The points of a block."""
    return points[0][box], points[1][box], points[2][box]
