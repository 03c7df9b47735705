"""The folded cortex: a smooth hull of the hemispheres, cut by winding sulci.

A sulcus is a thin sheet of CSF that stands upright on the hull and reaches to a depth of its own. Where
the sheets run is decided by the zero lines of a narrow-band random field on the hull: their spacing is
half its wavelength, and they wind, end and join as sulci do. Grey matter is a ribbon of nearly constant
thickness along everything that CSF touches, so gyri, buried banks and white-matter blades follow.
"""

from dataclasses import dataclass

import numpy as np

from polysite.phantom.noise import Field
from polysite.phantom.shapes import Array, Points, common, ellipsoid, sheet, union

MIDLINE = ((-8.0, 1.0), (37.0, 26.0))
"""Centre and radii (y, z) of the central block, where the hemispheres are joined."""
SYLVIAN_SLOPE = 0.42


@dataclass(frozen=True)
class Folding:
    """What makes one person's cortex."""

    sulci: Field
    depth: Field
    spacing_mm: float
    depth_mm: float
    width_mm: float
    thickness_mm: float


def draw_folding(rng: np.random.Generator, atrophy: float) -> Folding:
    """A new cortex; `atrophy` from 0 to 1 widens the sulci and thins the ribbon."""
    spacing = float(rng.uniform(11.5, 13.5))
    return Folding(
        sulci=Field(rng, 2 * spacing, bandwidth=0.45, detail=0.2),
        depth=Field(rng, 30.0),
        spacing_mm=spacing,
        depth_mm=float(rng.uniform(18.0, 21.0)),
        width_mm=float(rng.uniform(0.6, 1.0) + 1.1 * atrophy),
        thickness_mm=float(rng.uniform(2.4, 2.7) - 0.25 * atrophy),
    )


def hull(points: Points) -> Array:
    """Depth below the smooth outline of both hemispheres (no sulci, no fissures)."""
    x, y, z = points
    side = np.abs(x)
    narrow = 1 + np.float32(0.0016) * np.maximum(y + 15, 0)  # the frontal lobes are narrower
    body = ellipsoid((x * narrow, y, z), (0, -16, 16), (63.5, 83, 58), power=2.1)
    body = common(body, np.asarray(z + 17 - np.abs(y) / 10, np.float32), blend_mm=14)
    tilted = z + 21 + np.float32(0.12) * (y + 12)
    temporal = ellipsoid((side, y, tilted), (43, -13, 0), (22, 42, 21), power=2.2)
    return union(body, temporal, blend_mm=7)


def fissure(points: Points) -> Array:
    """Distance to the sheet between the hemispheres, which ends at the corpus callosum."""
    x, y, z = points
    (cy, cz), (ry, rz) = MIDLINE
    centred = np.maximum(np.hypot((y - cy) / ry, (z - cz) / rz), 1e-3)
    return sheet(x, (1 - centred) * np.float32(0.5 * (ry + rz)))


def sylvian(points: Points) -> tuple[Array, Array]:
    """Distances to the lateral fissure and to the insula at its bottom."""
    x, y, z = points
    side = np.abs(x)
    rise = np.float32(1 / np.hypot(1, SYLVIAN_SLOPE))
    across = (z + 7 + np.float32(SYLVIAN_SLOPE) * (y - 10)) * rise
    along = (y - 10) * rise - np.float32(SYLVIAN_SLOPE) * (z + 7) * rise
    stem = sheet(across, 38 - side, -54 - along, along - 8)
    floor = sheet(
        side - 39 + np.float32(0.005) * (along + 15) ** 2, np.abs(across) - 12, -38 - along, along - 10
    )
    return stem, floor


def cortex(points: Points, depth_mm: Array, folding: Folding, step_mm: tuple[float, float, float]) -> Array:
    """Distance from every point of the hemispheres to the nearest CSF around them, in mm.

    Parameters
    ----------
    points : three arrays (x, y, z)
        Head coordinates on a regular grid.
    depth_mm : array (x, y, z)
        Depth below the hull, the fissures not counted.
    folding : Folding
    step_mm : tuple of float
        Spacing of the grid, for gradients.
    """
    x, y, z = points
    sway = folding.depth.cloud(points)
    between = fissure((x + np.float32(1.0) * sway, y, z))
    medial = common(depth_mm, between, blend_mm=8)  # the medial walls are folded too
    inside = (depth_mm > -2 * max(step_mm)) & (medial < 1.8 * folding.depth_mm)
    # on the hull straight above a point the field is the same: sheets stand upright on the hull
    slopes = np.gradient(medial, *step_mm)
    length = np.sqrt(sum(s * s for s in slopes)) + np.float32(1e-3)
    lift = medial[inside] * np.float32(0.72) / length[inside]
    here = (x[inside], y[inside], z[inside])
    across, along, up = (p - lift * s[inside] for p, s in zip(here, slopes, strict=True))
    # the two sides of the midline are drawn apart, so that left does not mirror right
    across += np.where(here[0] < 0, np.float32(-24), np.float32(24))
    wave = np.zeros_like(medial)
    wave[inside] = folding.sulci((across, along, up))
    steepness = np.sqrt(sum(s * s for s in np.gradient(wave, *step_mm)))
    typical = np.float32(np.pi / folding.spacing_mm)  # slope of a unit wave of this spacing
    offset = np.abs(wave) / np.maximum(steepness, np.float32(0.55) * typical)
    bottom = np.float32(folding.depth_mm) * (1 + np.float32(0.28) * np.maximum(sway, -2.5))
    core = ellipsoid((np.abs(x), y, z), (17, -8, 10), (21, 40, 20))  # the deep nuclei and what leads there
    # halfway between two walls the foot jumps from one to the other: no sulcus there
    ridge = np.float32(25) * (np.float32(0.72) - length)
    sulcus = sheet(offset, medial - bottom, core + 5, ridge)
    sulcus -= np.float32(0.5 * folding.width_mm) * (1.35 - np.clip(medial / bottom, 0, 1))
    sulcus[~inside] = 1e3
    stem, floor = sylvian((x + np.float32(1.5) * sway, y, z + np.float32(2.0) * sway))
    half_gap = np.float32(0.35 + 0.5 * folding.width_mm)
    from_csf = np.minimum(np.minimum(sulcus, stem - half_gap), np.minimum(floor, between) - half_gap)
    return common(depth_mm, from_csf, blend_mm=2.5)
