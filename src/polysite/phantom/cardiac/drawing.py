"""The heart in a short-axis stack: its layers painted from outside in, and its labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polysite.phantom.cardiac.canvas import Canvas
from polysite.phantom.cardiac.heart import ANGLES, LEVELS, N_ANGLES, Heart, Surfaces, Table
from polysite.phantom.shapes import Array, Points, membership

REGIONS = ("lv", "myocardium", "rv", "infarct", "no_reflow")
RV_WALL_MM = 3.0
FINE = 2048
"""Angles at which surfaces are looked up."""


@dataclass(frozen=True)
class Place:
    """Polar coordinates around the heart's axis at every point of a block.

    Attributes
    ----------
    x, y, radius : float32 arrays (x, y, z)
        mm to the right, up, and from the axis.
    index : int32 array (x, y, z)
        Where a point's level and angle stand in a flattened table of :meth:`read`.
    level : float32 array (z,)
        Of every sub-slice.
    width_mm : float
        Of a voxel in the plane.
    step : float
        Of the sub-slices, in levels.
    """

    x: Array
    y: Array
    radius: Array
    index: NDArray[np.int32]
    level: Array
    width_mm: float
    step: float

    def read(self, table: Table) -> Array:
        """A table's value everywhere; it closes on itself in angle."""
        closed = np.concatenate([table, table[:, :1]], axis=1)
        rows = np.interp(self.level, LEVELS, np.arange(len(LEVELS)))
        low = np.minimum(rows.astype(int), len(LEVELS) - 2)
        share = (rows - low)[:, None]
        slices = (1 - share) * closed[low] + share * closed[low + 1]
        columns = np.arange(FINE) * (N_ANGLES / FINE)
        left = columns.astype(int)
        part = columns - left
        fine = (1 - part) * slices[:, left] + part * slices[:, left + 1]
        return np.asarray(np.take(fine.astype(np.float32).ravel(), self.index))

    def inside(self, table: Table) -> Array:
        """Fraction of each voxel inside a surface; the distance takes its slope in the plane into account."""
        slope = np.gradient(np.concatenate([table[:, -1:], table, table[:, :1]], axis=1), axis=1)[:, 1:-1]
        slope = slope * (N_ANGLES / (2 * np.pi)) / np.maximum(table, 1.0)
        depth = (self.read(table) - self.radius) * self.read(1 / np.hypot(1, slope))
        return membership(depth, self.width_mm)

    def between(self, first: float, last: float) -> Array:
        """1 between two levels, 0 beyond, (z,)."""
        return membership(np.minimum(self.level - first, last - self.level), self.step)


def place(heart: Heart, shape: Surfaces, points: Points, width_mm: float, sub_mm: float) -> Place:
    """Where points (right, up and along the axis as seen in the image, mm) lie in a heart."""
    x, y, z = points
    z = z[0, 0]
    level = (z - np.float32(shape.base_mm)) / np.float32(shape.length_mm)
    along = np.asarray(z - np.float32(0.5 * heart.length_mm), np.float32)
    x = x - np.float32(heart.tilt[0]) * along
    y = y - np.float32(heart.tilt[1]) * along
    turns = (np.arctan2(y, x) * np.float32(0.5 / np.pi) - np.float32(heart.roll_deg / 360)) % 1
    column = np.rint(turns * FINE).astype(np.int32) % FINE
    index = column + FINE * np.arange(len(z), dtype=np.int32)
    return Place(x, y, np.hypot(x, y), index, level, width_mm, sub_mm / shape.length_mm)


def paint_heart(canvas: Canvas, heart: Heart, shape: Surfaces, at: Place, regions: dict[str, Array]) -> None:
    """Paint fat, right ventricle, wall, infarct, cavity and papillary muscles.

    `regions` are the heart's :func:`region_fractions`.
    """
    roof = at.between(-0.58, 1.29)
    below_base = np.clip(1 + LEVELS / 0.05, 0, 1)[:, None]
    rv_wall = RV_WALL_MM * (0.4 + 0.6 * below_base)
    has_rv = np.clip((shape.rv - shape.epi) / 3, 0, 1)
    outside = np.maximum(shape.rv + has_rv * rv_wall, shape.epi)
    groove = np.exp(-(((LEVELS + 0.02) / 0.12) ** 2))[:, None]
    bare = 0.25 + 0.75 * np.exp(-((((ANGLES - 175 + 180) % 360 - 180) / 95) ** 4))[None]
    fat = heart.fat_mm * (bare + 1.3 * groove) * np.clip((outside / 8), 0, 1)
    canvas.paint("fat", at.inside(outside + fat) * roof)
    canvas.paint("myocardium", at.inside(outside) * roof)
    ridge = heart.ridges
    canvas.paint("blood", at.inside(np.maximum(shape.rv - 1.4 * ridge * has_rv, shape.epi)) * roof)
    canvas.paint("myocardium", at.inside(shape.epi) * roof)
    if heart.infarct:
        canvas.paint("infarct", np.minimum(regions["infarct"] + regions["no_reflow"], 1))
        canvas.paint("no_reflow", regions["no_reflow"])
    rough = np.clip(shape.endo - ridge * np.clip((LEVELS[:, None] - 0.12) / 0.3, 0, 1), 0, None)
    canvas.paint("blood", at.inside(rough) * roof)
    for angle, size, first, last in heart.papillary:
        _paint_papillary(canvas, shape, at, (angle + heart.roll_deg, size, first, last))
    _paint_aorta(canvas, at)


def _paint_papillary(
    canvas: Canvas, shape: Surfaces, at: Place, muscle: tuple[float, float, float, float]
) -> None:
    """A muscle that stands on the free wall: free in the cavity above, one with the wall below."""
    angle, size, first, last = muscle
    column = round(angle % 360 * N_ANGLES / 360) % N_ANGLES
    wall = np.interp(at.level, LEVELS, shape.endo[:, column])
    t = np.clip((at.level - first) / (last - first), 0, 1)
    distance = wall - size * np.clip(1.15 - 0.55 * t, 0.3, 1.2)
    turn = np.deg2rad(angle)
    from_axis = np.hypot(
        at.x - (distance * np.cos(turn)).astype(np.float32),
        at.y - (distance * np.sin(turn)).astype(np.float32),
    )
    thickness = size * np.sqrt(np.clip(np.minimum(3.5 * t, 1.0), 0, 1))
    cover = membership((thickness - from_axis).astype(np.float32), at.width_mm) * at.between(first, last)
    canvas.paint("myocardium", np.minimum(cover, at.inside(shape.endo + 1.0)).astype(np.float32))


def _paint_aorta(canvas: Canvas, at: Place) -> None:
    """The aortic root above the base, between the left atrium and the right ventricle's outflow."""
    x, y = at.x + np.float32(17), at.y - np.float32(11)
    depth = np.float32(14) - np.hypot(x, y)
    above = at.between(-0.59, -0.07)
    canvas.paint("myocardium", membership(depth + 2, at.width_mm) * above)
    canvas.paint("blood", membership(depth, at.width_mm) * above)


def region_fractions(shape: Surfaces, at: Place) -> dict[str, Array]:
    """Fraction of each voxel in each region of :data:`REGIONS`; `myocardium` is without the infarct."""
    ventricle = membership(at.level, at.step)
    endo, epi, rv = at.inside(shape.endo), at.inside(shape.epi), at.inside(shape.rv)
    found = {
        "lv": endo,
        "myocardium": np.clip(epi - endo, 0, 1),
        "rv": np.clip(rv - epi, 0, 1),
        "infarct": np.zeros_like(endo),
        "no_reflow": np.zeros_like(endo),
    }
    if np.any(shape.infarct > shape.endo):
        scar = np.clip(at.inside(shape.infarct) - endo, 0, found["myocardium"])
        core = np.clip(at.inside(shape.core_outer) - at.inside(shape.core_inner), 0, scar)
        found |= {"infarct": scar - core, "no_reflow": core, "myocardium": found["myocardium"] - scar}
    return {name: np.asarray(cover * ventricle, np.float32) for name, cover in found.items()}
