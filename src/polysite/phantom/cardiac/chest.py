"""What surrounds a heart in a short-axis image: chest wall, lungs, diaphragm, liver and what lies behind.

Coordinates are mm from the left ventricle's axis as a reader sees the image: x to the right (towards the back and
the left), y up, z along the axis towards the apex. Slices are thick and these structures large, so they are drawn at
the slices' centres, with softer edges in place of the mean over the thickness.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from polysite.phantom.noise import Field
from polysite.phantom.shapes import Array, Box, Points, common, cut, ellipsoid, membership, union

Layer = tuple[str, Array, Box]
WHOLE = (slice(None),) * 3


@dataclass(frozen=True)
class Chest:
    """What makes one chest; `vessels`, `coils` (of bowel) and liver `veins` are ellipsoids (x, y, z, radii)."""

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
    veins: tuple[tuple[float, ...], ...]
    lung_mm: float
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
    veins = [
        (
            rng.uniform(-95, 20),
            rng.uniform(-75, -20),
            rng.uniform(0, 80),
            *rng.uniform((2.5, 2, 12), (9, 4, 30)),
        )
        for _ in range(9)
    ]
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
        veins=tuple(tuple(map(float, v)) for v in veins),
        lung_mm=float(rng.normal(105, 8)),
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
    # above the lung: pectoral and shoulder muscles with fat between them
    dome = ellipsoid((px, py, z), (20, -20, 20), (98, chest.lung_mm + 20, 190), power=2.4)
    above = common(-dome - 6, cavity + 3)
    between = (np.float32(0.22) - np.abs(np.abs(relief + px / 150) - np.float32(0.75))) * 12
    yield "fat", 0.9 * membership(common(above, between), edge_mm + 1), WHOLE
    cavity = common(cavity, dome, blend_mm=10)
    yield "lung", membership(cavity, edge_mm), WHOLE
    yield from _inside(chest, moved, cavity, relief, edge_mm, radius_mm)


def _block(points: Points, centre: Sequence[float], radii: Sequence[float], *, margin_mm: float = 8.0) -> Box:
    """The block of the grid around an ellipsoid; the axes are straight but for the shifts of the breath."""
    lines = points[0][:, 0, 0], points[1][0, :, 0], points[2][0, 0, :]
    box = []
    for line, c, r in zip(lines, centre, radii, strict=True):
        hit = np.flatnonzero(np.abs(line - c) < r + margin_mm)
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0))
    return tuple(box)


def _inside(
    chest: Chest, points: Points, cavity: Array, relief: Array, edge_mm: float, radius_mm: float
) -> Iterator[Layer]:
    y = points[1]
    for vessel in chest.vessels:
        box = _block(points, vessel[:3], vessel[3:])
        depth = common(ellipsoid(cut(points, box), vessel[:3], vessel[3:]), cavity[box] - 4)
        yield "blood", membership(depth, edge_mm), box
    # the pericardial fat pad lies between the right ventricle and the chest wall
    box = _block(points, (-20, -10, 0), (radius_mm + 60, radius_mm + 30, 400))
    near = cut(points, box)
    pad = ellipsoid(near, (-radius_mm - 8, -14, 40), (22 + chest.pad_mm, 26 + chest.pad_mm, 80))
    around = ellipsoid(near, (-20, -4, 0), (radius_mm + 12, radius_mm - 2, 110))
    bridge = common(union(pad, around, blend_mm=10), cavity[box] + 1)
    yield "fat", membership(bridge + 2 * relief[box], edge_mm), box
    box = (slice(None), slice(int(np.flatnonzero(y[0, :, 0] < 25)[0]), None), slice(None))
    yield from _belly(chest, cut(points, box), cavity[box], relief[box], edge_mm, radius_mm, box[1].start)
    yield from _spine(points, cavity, edge_mm, radius_mm)


def _belly(
    chest: Chest, points: Points, cavity: Array, relief: Array, edge_mm: float, radius_mm: float, first: int
) -> Iterator[Layer]:
    """Diaphragm and what lies below it; `points` are the rows of the image from `first` on."""
    x, y, z = points

    def rows(box: Box) -> Box:
        return box[0], slice(box[1].start + first, box[1].stop + first), box[2]

    whole = rows(tuple(slice(0, n) for n in x.shape))
    floor = np.float32(-radius_mm - chest.dome_mm) + np.float32(chest.slope) * x - np.float32(0.0022) * x * x
    below = np.asarray(floor - y + np.float32(0.16) * (z - 40), np.float32)
    diaphragm = common(below, cavity + 2, blend_mm=4)
    yield "muscle", membership(diaphragm, edge_mm), whole
    belly = diaphragm - np.float32(2.5)
    yield "fat", membership(belly, edge_mm), whole

    def organ(centre: Sequence[float], radii: Sequence[float], wall_mm: float) -> tuple[Array, Box]:
        box = _block(points, centre, radii, margin_mm=14)
        depth = ellipsoid(cut(points, box), centre, radii, power=2.3) + 2 * relief[box]
        return common(depth, belly[box] - np.float32(wall_mm)), box

    for coil in chest.coils:
        depth, box = organ(coil[:3], coil[3:], 5)
        yield "muscle", membership(depth, edge_mm), rows(box)
        yield "bowel", membership(depth - 2.5, edge_mm), rows(box)
    tilted = (x, y - np.float32(0.2) * x, z)
    liver = ellipsoid(tilted, (-38, -radius_mm - 42, 60), (92, 44, 150), power=2.4)
    liver = common(liver + 3 * relief, belly - 1)
    yield "liver", membership(liver, edge_mm), whole
    for vein in chest.veins:
        at = (vein[0], vein[1] - radius_mm, vein[2])
        box = _block(points, at, vein[3:])
        depth = common(ellipsoid(cut(points, box), at, vein[3:]), liver[box] - 4)
        yield "blood", 0.8 * membership(depth, edge_mm), rows(box)
    stomach, box = organ((66, -radius_mm - 40, 45), (30, 24, 60), 3)
    yield "muscle", membership(stomach, edge_mm), rows(box)
    yield chest.stomach, membership(stomach - 4, edge_mm), rows(box)
    spleen, box = organ((106, -72, 10), (20, 36, 70), 2)
    yield "spleen", membership(spleen, edge_mm), rows(box)


def _spine(points: Points, cavity: Array, edge_mm: float, radius_mm: float) -> Iterator[Layer]:
    """Aorta, vertebra, canal: further away in slices near the apex."""
    x, y, z = points
    cx, cy = radius_mm + 24, -28
    box = _block(points, (cx + 50, cy - 15, 0), (110, 80, 400))
    x, y, z = cut(points, box)
    shifted = (x - np.float32(0.6) * z, y + np.float32(0.25) * z, z)

    def disc(dx: float, dy: float, radii: tuple[float, float]) -> Array:
        return ellipsoid(shifted, (cx + dx, cy + dy, 0), (*radii, 400))

    yield "muscle", membership(common(disc(24, -10, (38, 26)), cavity[box] + 14), edge_mm), box
    bone = disc(10, -8, (20, 17))
    yield "bone", membership(bone, edge_mm), box
    yield "marrow", membership(bone - 1.5, edge_mm), box
    yield "fluid", membership(disc(37, -16, (8, 7)), edge_mm), box
    aorta = disc(-19, 7, (11, 11))
    yield "muscle", membership(aorta + 1.5, edge_mm), box
    yield "blood", membership(aorta, edge_mm), box
