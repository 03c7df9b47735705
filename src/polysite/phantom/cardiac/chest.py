"""What surrounds a heart in a short-axis image: chest wall, lungs, diaphragm, liver and what lies behind.

Coordinates are mm from the left ventricle's axis as a reader sees the image: x to the right (towards the back and
the left), y up, z along the axis towards the apex. Slices are thick and these structures large, so they are drawn at
the slices' centres, with softer edges in place of the mean over the thickness.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from polysite.phantom.noise import Field
from polysite.phantom.shapes import Array, Box, Points, box_between, common, cut, ellipsoid, membership, union

Layer = tuple[str, Array, Box]
WHOLE = (slice(None),) * 3


@dataclass(frozen=True)
class Chest:
    """What makes one chest; `vessels` and `coils` (of bowel) are ellipsoids (x, y, z, radii)."""

    width_mm: float
    height_mm: float
    turn_deg: float
    fat_mm: float
    muscle_mm: float
    dome_mm: float
    slope: float
    pad_mm: float
    relief: Field
    vessels: tuple[tuple[float, ...], ...]
    coils: tuple[tuple[float, ...], ...]
    stomach: str


def draw_chest(rng: np.random.Generator) -> Chest:
    """Draw a chest."""
    vessels = []
    for _ in range(70):  # lung vessels branch away from the hilum
        angle, way = np.deg2rad(rng.uniform(5, 150)), rng.gamma(2.2, 16)
        size = rng.uniform(1.1, 2.6) * np.exp(-way / 120)
        vessels.append(
            (22 + (30 + way) * np.cos(angle), 20 + (22 + way) * np.sin(angle), rng.uniform(-20, 100),
             size * rng.uniform(1, 2), size, rng.uniform(6, 14))
        )  # fmt: skip
    coils = [
        (rng.uniform(-60, 120), rng.uniform(-185, -105), rng.uniform(-20, 100),
         rng.uniform(12, 26), rng.uniform(9, 18), rng.uniform(25, 50))
        for _ in range(14)
    ]  # fmt: skip
    return Chest(
        width_mm=float(rng.normal(226, 12)),
        height_mm=float(rng.normal(430, 20)),
        turn_deg=float(rng.normal(6, 8)),
        fat_mm=float(rng.uniform(7, 20)),
        muscle_mm=float(rng.uniform(9, 14)),
        dome_mm=float(rng.normal(3, 2)),
        slope=float(rng.normal(0.22, 0.1)),
        pad_mm=float(rng.uniform(2, 14)),
        relief=Field(rng, 70.0),
        vessels=tuple(tuple(map(float, v)) for v in vessels),
        coils=tuple(tuple(map(float, c)) for c in coils),
        stomach=str(rng.choice(["fluid", "air", "bowel"])),
    )


def layers(chest: Chest, points: Points, moved: Points, edge_mm: float, radius_mm: float) -> Iterator[Layer]:
    """Tissue, covered fraction and block, from outside in.

    Parameters
    ----------
    points, moved : tuples of float32 arrays
        The chest wall's coordinates, and those of what moves with the breath.
    edge_mm : float
        Width of an edge.
    radius_mm : float
        Of the heart at its widest.
    """
    turn = np.deg2rad(chest.turn_deg)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    px, py = c * points[0] + s * points[1], c * points[1] - s * points[0]
    z = points[2]
    relief = chest.relief.cloud((px, py, z))
    half = chest.width_mm / 2
    # the wall in front of the heart lies closer in slices near the apex
    front = np.float32(half - radius_mm - 62) + np.float32(0.22) * z
    body = ellipsoid((px - front, py, z), (0, 10, 0), (half, chest.height_mm / 2, 400), power=2.9)
    yield "skin", membership(body, edge_mm), WHOLE
    under = body - np.float32(2.5)
    yield "fat", membership(under, edge_mm), WHOLE
    lean = under - np.float32(chest.fat_mm) * (1 + np.float32(0.18) * relief)
    yield "muscle", membership(lean, edge_mm), WHOLE
    cavity = lean - np.float32(chest.muscle_mm) * (1 + np.float32(0.15) * relief)
    ribs = np.float32(5) - np.abs(cavity + np.float32(0.5 * chest.muscle_mm))
    along = np.sin((py + np.float32(0.35) * px + z) * np.float32(2 * np.pi / 34))
    yield "marrow", membership(common(ribs, (along - np.float32(0.35)) * 7), edge_mm + 1), WHOLE
    streak = common(np.float32(1.6) - np.abs(lean - np.float32(0.35 * chest.muscle_mm)), relief * 4)
    yield "fat", 0.8 * membership(streak, edge_mm), WHOLE
    yield "lung", membership(cavity, edge_mm), WHOLE
    yield from _inside(chest, moved, cavity, relief, edge_mm, radius_mm)


def _inside(
    chest: Chest, points: Points, cavity: Array, relief: Array, edge_mm: float, radius_mm: float
) -> Iterator[Layer]:
    x, y, z = points
    for vessel in chest.vessels:
        box = box_between(
            points, [p - r - 3 for p, r in zip(vessel[:3], vessel[3:], strict=True)],
            [p + r + 3 for p, r in zip(vessel[:3], vessel[3:], strict=True)],
        )  # fmt: skip
        if all(part.stop > part.start for part in box):
            depth = common(ellipsoid(cut(points, box), vessel[:3], vessel[3:]), cavity[box] - 4)
            yield "blood", membership(depth, edge_mm), box
    # the pericardial fat pad lies between the right ventricle and the chest wall
    pad = ellipsoid(points, (-radius_mm - 6, -16, 40), (26 + chest.pad_mm, 34 + chest.pad_mm, 80))
    around = ellipsoid(points, (-12, -2, 0), (radius_mm + 20, radius_mm + 4, 120))
    bridge = common(union(pad, around, blend_mm=12), cavity + 1)
    yield "fat", membership(bridge + 2 * relief, edge_mm), WHOLE
    floor = np.float32(-radius_mm - chest.dome_mm - 2) + np.float32(chest.slope) * x - np.float32(0.0022) * x * x
    below = np.asarray(floor - y + np.float32(0.16) * (z - 40), np.float32)
    diaphragm = common(below, cavity + 2, blend_mm=4)
    yield "muscle", membership(diaphragm, edge_mm), WHOLE
    belly = diaphragm - np.float32(2.5)
    yield "fat", membership(belly, edge_mm), WHOLE
    for coil in chest.coils:
        depth = common(ellipsoid(points, coil[:3], coil[3:], power=2.3) + 2 * relief, belly - 5)
        yield "muscle", membership(depth, edge_mm), WHOLE
        yield "bowel", membership(depth - 2.5, edge_mm), WHOLE
    liver = ellipsoid((x, y - np.float32(0.2) * x, z), (-38, -radius_mm - 42, 60), (92, 44, 150), power=2.4)
    yield "liver", membership(common(liver + 3 * relief, belly - 1), edge_mm), WHOLE
    for vx, vy, size in ((-55, -72, 4), (-20, -84, 5), (-75, -95, 3.5), (5, -70, 3)):
        vein = ellipsoid(points, (vx, vy - radius_mm + 30, 40), (1.6 * size, size, 45))
        yield "blood", 0.8 * membership(common(vein, liver - 5), edge_mm), WHOLE
    stomach = common(ellipsoid(points, (66, -radius_mm - 40, 45), (30, 24, 60), power=2.3), belly - 3)
    yield "muscle", membership(stomach, edge_mm), WHOLE
    yield chest.stomach, membership(stomach - 4, edge_mm), WHOLE
    spleen = ellipsoid((x + np.float32(0.35) * (y + 80), y, z), (112, -86, 10), (21, 40, 70))
    yield "spleen", membership(common(spleen, belly - 2), edge_mm), WHOLE
    yield from _spine(points, cavity, edge_mm, radius_mm)


def _spine(points: Points, cavity: Array, edge_mm: float, radius_mm: float) -> Iterator[Layer]:
    """Aorta, vertebra, canal: further away in slices near the apex."""
    x, y, z = points
    shifted = (x - np.float32(0.9) * z, y + np.float32(0.25) * z, z)
    cx, cy = radius_mm + 42, -30
    bed = ellipsoid(shifted, (cx + 8, cy - 6, 0), (44, 38, 400))
    yield "muscle", membership(common(bed, cavity + 12), edge_mm), WHOLE
    bone = ellipsoid(shifted, (cx + 10, cy - 8, 0), (21, 18, 400))
    yield "bone", membership(bone, edge_mm), WHOLE
    yield "marrow", membership(bone - 2, edge_mm), WHOLE
    yield "fluid", membership(ellipsoid(shifted, (cx + 38, cy - 18, 0), (9, 8, 400)), edge_mm), WHOLE
    aorta = ellipsoid(shifted, (cx - 20, cy + 5, 0), (11.5, 11.5, 400))
    yield "muscle", membership(aorta + 2, edge_mm), WHOLE
    yield "blood", membership(aorta, edge_mm), WHOLE
