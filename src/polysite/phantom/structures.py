"""What lies where in a head: the layers from the skin to the lesions, in the order they are painted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from polysite.phantom.cortex import MIDLINE, Folding, cortex, hull
from polysite.phantom.noise import Field
from polysite.phantom.shapes import (
    Array,
    Box,
    Points,
    box_between,
    common,
    cut,
    ellipsoid,
    membership,
    sheet,
    tube,
    union,
)

Layer = tuple[str, Array, Box]
Solid = tuple[str, Array]


@dataclass(frozen=True)
class Build:
    """Sizes of one person's structures, and the fields that vary them from place to place."""

    ventricle: float
    skull_mm: float
    scalp_mm: float
    csf_mm: float
    nuclei: float
    relief: Field
    marbling: Field
    folia: Field


def draw_build(rng: np.random.Generator, atrophy: float) -> Build:
    """Draw a build; `atrophy` from 0 to 1 enlarges the spaces that CSF fills."""
    return Build(
        ventricle=float(np.exp(rng.normal(-0.08, 0.14)) + 0.55 * atrophy),
        skull_mm=float(rng.uniform(5.5, 7.5)),
        scalp_mm=float(rng.uniform(5.0, 8.0)),
        csf_mm=float(rng.uniform(1.0, 1.7) + 1.8 * atrophy),
        nuclei=float(rng.normal(1.0, 0.04)),
        relief=Field(rng, 70.0),
        marbling=Field(rng, 18.0),
        folia=Field(rng, 40.0),
    )


def _mirrored(points: Points) -> Points:
    """Both sides folded onto the right one."""
    return np.abs(points[0]), points[1], points[2]


def layers(
    points: Points,
    step_mm: tuple[float, float, float],
    folding: Folding,
    build: Build,
    lesions: Sequence[Sequence[float]] = (),
) -> Iterator[Layer]:
    """Tissue and covered fraction of each voxel, from outside in; a later layer hides what is below it."""
    voxel = float(np.prod(step_mm) ** (1 / 3))
    whole = (slice(None),) * 3
    relief, marbling = build.relief.cloud(points), build.marbling.cloud(points)
    outline = hull(points)
    behind = cerebellum(points)
    stem = brain_stem(points)
    gap = np.asarray(build.csf_mm * (1 + relief / 4), np.float32)
    inner = cranial_cavity(points, outline, behind, stem) + gap
    for name, depth in _outside(points, inner, build, relief, marbling):
        yield name, membership(depth, voxel), whole
    yield "csf", membership(inner, voxel), whole
    box = box_between(points, (-50, 0, -110), (50, 110, 5))
    for name, depth in _face(cut(points, box), inner[box]):
        yield name, membership(depth, voxel), box
    # the tentorium keeps the cerebellum and the occipital lobes apart
    room = common(outline, -behind - 2.5, blend_mm=3)
    from_csf = cortex(points, room, folding, step_mm)
    yield "grey_matter", membership(from_csf, voxel), whole
    thickness = np.float32(folding.thickness_mm) * (1 + np.float32(0.08) * marbling)
    yield "white_matter", membership(from_csf - thickness, voxel), whole
    box = box_between(points, (-60, -100, -160), (60, 15, 20))
    for name, depth in _hindbrain(cut(points, box), behind[box], stem[box], build):
        yield name, membership(depth, voxel), box
    box = box_between(points, (-50, -80, -50), (50, 50, 45))
    for name, depth in _core(cut(points, box), build):
        yield name, membership(depth, voxel), box
    for x, y, z, radius in lesions:
        box = box_between(points, (x - 9, y - 9, z - 9), (x + 9, y + 9, z + 9))
        near = cut(points, box)
        distance = np.sqrt((near[0] - x) ** 2 + (near[1] - y) ** 2 + (near[2] - z) ** 2)
        yield "lesion", membership(radius * (1 + np.float32(0.2) * marbling[box]) - distance, voxel), box


def cerebellum(points: Points) -> Array:
    """Depth inside the cerebellum's outline."""
    side, y, z = _mirrored(points)
    lobe = ellipsoid((side, y, z + np.float32(0.18) * (side - 24)), (24, -63, -36), (29, 27, 20))
    vermis = ellipsoid((side, y, z), (0, -62, -30), (15, 24, 23))
    return union(lobe, vermis, blend_mm=6)


def brain_stem(points: Points) -> Array:
    """Depth inside midbrain, pons, medulla and cord."""
    path = [
        (0, -20, -2, 11), (0, -24, -14, 13), (0, -24, -30, 14.5),
        (0, -30, -46, 10), (0, -36, -64, 7), (0, -40, -140, 6),
    ]  # fmt: skip
    return tube(points, path, stretch=(1.15, 1, 1))


def cranial_cavity(points: Points, outline: Array, behind: Array, stem: Array) -> Array:
    """Depth inside the brain with its cisterns: the hollows between its parts are filled."""
    bridge = ellipsoid(points, (0, -16, -20), (24, 28, 16))
    tent = ellipsoid(points, (0, -60, -18), (40, 24, 17))
    brain = union(union(outline, behind, blend_mm=10), bridge, blend_mm=8)
    return union(union(brain, tent, blend_mm=6), stem + 3, blend_mm=8)


def _outside(points: Points, inner: Array, build: Build, relief: Array, marbling: Array) -> Iterator[Solid]:
    """Skin, fat, muscle, and the skull with its marrow."""
    x, y, z = points
    side = np.abs(x)
    skull = inner + np.float32(build.skull_mm) * (1 + np.float32(0.12) * relief)
    temple = np.exp(-(((y - 10) / 34) ** 2) - ((z + 14) / 30) ** 2) * np.clip(side / 50, 0, 1)
    cover = np.float32(build.scalp_mm) + 6 * temple
    face = ellipsoid((x, y, z), (0, 36, -62), (58, 52, 64), power=2.3)
    brow = ellipsoid(points, (0, 40, -20), (50, 38, 26), power=2.3)
    nose = ellipsoid(points, (0, 88, -52), (11, 16, 20))
    neck = tube(points, [(0, -26, -60, 56), (0, -36, -160, 60)], stretch=(1.1, 1, 1))
    face = union(union(face, brow, blend_mm=10), nose, blend_mm=12)
    head = union(skull + cover, union(face, neck, blend_mm=15), blend_mm=12)
    yield "skin", head
    yield "fat", head - 2
    # muscle thins out towards the vault
    lean = head - np.asarray(4 + 0.35 * build.scalp_mm + 0.12 * np.maximum(z + 10, 0), np.float32)
    streaks = np.asarray(8 * (1.6 - marbling), np.float32)  # of fat between the muscles
    yield "muscle", common(lean, streaks)
    yield "bone", skull
    yield "marrow", common(skull - np.float32(1.8), -inner - np.float32(1.6))


def _face(points: Points, inner: Array) -> Iterator[Solid]:
    """Orbits and eyes, sinuses and airways; never inside the skull."""
    _, y, _ = mirrored = _mirrored(points)
    outer = -inner - 2.5
    orbit = tube(mirrored, [(32, 59, -33, 17), (18, 26, -28, 5)])
    yield "bone", common(orbit + 2, outer)
    yield "fat", common(orbit, outer)
    wall = sheet(tube(mirrored, [(32, 59, -33, 13.5), (18, 26, -28, 4)]))
    yield "muscle", common(common(1.5 - wall, 55 - y), outer)
    yield "white_matter", common(tube(mirrored, [(32, 50, -33, 2), (14, 20, -26, 2)]), outer)
    eye = ellipsoid(mirrored, (32, 60, -33), (12.5, 12.5, 12.5))
    yield "skin", eye
    yield "vitreous", eye - 1
    yield "lens", ellipsoid(mirrored, (32, 69, -33), (4.5, 2.2, 4.5))
    air = ellipsoid(mirrored, (26, 54, -62), (13, 15, 14))
    air = union(air, ellipsoid(mirrored, (5, 52, -60), (3.2, 30, 20)))
    air = union(air, ellipsoid(mirrored, (7, 44, -36), (6, 18, 8)))
    air = union(air, ellipsoid(mirrored, (6, 16, -38), (9, 9, 7)))
    frontal = ellipsoid(mirrored, (11, 73, -14), (11, 3.5, 8))
    air = union(air, common(frontal, inner + 7))  # behind the outer table
    air = union(air, ellipsoid(mirrored, (0, 10, -78), (10, 8, 24)))
    yield "bone", common(air + 2, outer)
    yield "air", common(air, outer)


def _hindbrain(points: Points, behind: Array, stem: Array, build: Build) -> Iterator[Solid]:
    """Cerebellum with its leaves (folia) and the brain stem."""
    _, y, z = points
    back, up = y + 44, z + 34
    fan = np.arctan2(up, -back) * 30 + 3 * build.folia.cloud(points)
    period = np.float32(7.0)
    offset = np.abs((fan + period / 2) % period - period / 2) * np.clip(np.hypot(back, up) / 30, 0.4, 1.3)
    reach = sheet(offset, behind - 7) - np.float32(0.35)
    reach = common(behind, reach, blend_mm=1.5)
    yield "cerebellar_grey", reach
    yield "cerebellar_white", reach - np.float32(2.2)
    yield "cerebellar_white", common(tube(_mirrored(points), [(24, -62, -37, 9), (12, -42, -32, 7)]), behind)
    yield "brain_stem", stem


def _core(points: Points, build: Build) -> Iterator[Solid]:
    """Corpus callosum, deep nuclei and ventricles."""
    side, y, z = mirrored = _mirrored(points)
    (cy, cz), (ry, rz) = MIDLINE
    inward = (1 - np.hypot((y - cy) / ry, (z - cz) / rz)) * np.float32(0.5 * (ry + rz))
    arch = common(common(inward + 0.5, 7.5 - inward, blend_mm=2), z - cz + 3, blend_mm=3)
    yield "white_matter", common(arch, 16 - side, blend_mm=3)
    n = build.nuclei
    yield (
        "putamen",
        ellipsoid((side + np.float32(0.25) * (y - 2), y, z), (27.5, 2, 1), (5.5 * n, 17 * n, 10 * n)),
    )
    yield (
        "pallidum",
        ellipsoid((side + np.float32(0.4) * (y + 3), y, z), (20, -3, -1), (4.2 * n, 9.5 * n, 6.5 * n)),
    )
    yield (
        "caudate",
        tube(
            mirrored,
            [
                (13, 18, 3, 6.5 * n),
                (14.5, 10, 10, 6 * n),
                (17, -8, 19, 3.8),
                (23, -28, 19, 2.5),
                (28, -38, 8, 1.5),
            ],
        ),
    )
    yield (
        "thalamus",
        ellipsoid((side + np.float32(0.28) * (y + 18), y, z), (11.5, -18, 7), (9.5 * n, 15 * n, 9 * n)),
    )
    yield "hippocampus", tube(mirrored, [(25, -10, -21, 5.5), (28, -24, -15, 4.5), (24, -37, -4, 3)])
    yield "csf", ventricles(points, build)


def ventricles(points: Points, build: Build) -> Array:
    """Depth inside the lateral, third and fourth ventricles and the aqueduct."""
    mirrored = _mirrored(points)
    v = build.ventricle
    horns = tube(
        mirrored,
        [(9, 31, 2, 2.0 * v), (8.5, 20, 9, 4.4 * v), (9.5, 2, 17, 4.6 * v), (13, -20, 20, 4.4 * v),
         (23, -40, 11, 6.3 * v), (26, -62, 5, 2.4 * v)],
        stretch=(0.9, 1, 1.1),
    )  # fmt: skip
    temporal = tube(mirrored, [(24, -41, 8, 5 * v), (33, -30, -10, 2.2 * v), (32, -13, -19, 1.6 * v)])
    lateral = common(union(horns, temporal, blend_mm=2), mirrored[0] - np.float32(0.7))
    third = ellipsoid(points, (0, -14, 0), (1.6 + 1.2 * (v - 0.9), 16, 9))
    fourth = ellipsoid(points, (0, -42, -32), (8 * v**0.5, 4.5 * v**0.5, 11))
    aqueduct = tube(points, [(0, -28, -4, 0.9), (0, -38, -22, 1.1)])
    return union(union(lateral, third), union(fourth, aqueduct))


def draw_lesions(rng: np.random.Generator, build: Build) -> tuple[tuple[float, float, float, float], ...]:
    """Centres (head coordinates) and radii in mm of white-matter lesions."""
    n_lesions = int(rng.integers(6, 22))
    places = []
    for _ in range(n_lesions):
        side = float(rng.choice([-1.0, 1.0]))
        if rng.random() < 0.7:  # beside the body and the horns of the lateral ventricle
            y = float(rng.uniform(-55, 30))
            x = 15 + 4 * build.ventricle + abs(y + 8) * 0.12 + rng.gamma(2.0, 2.0)
            z = 18 - abs(y + 10) * 0.18 + rng.normal(0, 4)
        else:  # further out, below the cortex
            x, y, z = rng.uniform(24, 40), rng.uniform(-50, 30), rng.uniform(22, 42)
        places.append((side * float(x), float(y), float(z), float(np.clip(rng.gamma(3.0, 0.8), 1.2, 5.5))))
    return tuple(places)
