"""A human head from a random generator: one person, drawn on any grid.

Head coordinates are millimetres, RAS+, with the origin near the anterior commissure (as in MNI space), so
sizes and places below can be compared with an atlas. A person is a set of random choices
(:func:`draw_person`); the head is painted from outside in (:func:`draw_head`), each structure covering what
lies below it by the fraction of a voxel that it fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polysite.phantom import structures
from polysite.phantom.cortex import Folding, draw_folding
from polysite.phantom.noise import Field
from polysite.phantom.shapes import Array, Points
from polysite.phantom.tissue import TISSUES


@dataclass(frozen=True)
class Grid:
    """A regular grid of voxels, its axes along the scanner's: right, anterior, superior.

    Attributes
    ----------
    shape : (nx, ny, nz)
    step_mm : (x, y, z)
        Voxel size.
    centre_mm : (x, y, z)
        Scanner coordinates of the grid's centre.
    """

    shape: tuple[int, int, int]
    step_mm: tuple[float, float, float]
    centre_mm: tuple[float, float, float] = (0.0, -18.0, 18.0)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index to mm, (4, 4)."""
        affine = np.diag([*self.step_mm, 1.0])
        half = (np.asarray(self.shape) - 1) / 2
        affine[:3, 3] = np.asarray(self.centre_mm) - half * np.asarray(self.step_mm)
        return affine

    def axes(self) -> list[Array]:
        """Coordinates along each axis, mm."""
        origin = self.affine[:3, 3]
        return [
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(origin, self.step_mm, self.shape, strict=True)
        ]


def rotation(turn_deg: Sequence[float]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) for turns about x, then y, then z, in degrees."""
    a, b, c = np.deg2rad(turn_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True)
class Person:
    """Everything that makes one head differ from another."""

    size: tuple[float, float, float]
    turn_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    warp: tuple[Field, Field, Field]
    warp_mm: float
    folding: Folding
    build: structures.Build
    texture: Field
    lesions: tuple[tuple[float, float, float, float], ...]


def draw_person(rng: np.random.Generator, *, lesions: bool = False) -> Person:
    """Draw a person.

    Parameters
    ----------
    rng : numpy Generator
    lesions : bool
        Add white-matter lesions as in multiple sclerosis, most of them beside the ventricles.
    """
    overall = rng.normal(1.0, 0.025)
    size = overall * rng.normal(1.0, 0.018, 3)
    turn, shift = rng.normal(0, [3.0, 1.0, 1.5]), rng.normal(0, 2.0, 3)
    atrophy = float(rng.beta(1.4, 3.0))
    warp = (Field(rng, 150.0), Field(rng, 150.0), Field(rng, 150.0))
    folding = draw_folding(rng, atrophy)
    build = structures.draw_build(rng, atrophy)
    texture = Field(rng, 28.0)
    places = structures.draw_lesions(rng, build) if lesions else ()
    return Person(
        size=tuple(map(float, size)),  # type: ignore[arg-type]
        turn_deg=tuple(map(float, turn)),  # type: ignore[arg-type]
        shift_mm=tuple(map(float, shift)),  # type: ignore[arg-type]
        warp=warp,
        warp_mm=2.2,
        folding=folding,
        build=build,
        texture=texture,
        lesions=places,
    )


@dataclass(frozen=True)
class Head:
    """A person drawn on a grid.

    Attributes
    ----------
    grid : Grid
    fractions : dict of tissue name -> float32 array (x, y, z)
        Share of each voxel that a tissue fills; they sum to one. Every tissue of the table is there.
    texture : float32 array (x, y, z)
        Variation inside tissues, mean 0 and standard deviation about 1.
    """

    grid: Grid
    fractions: dict[str, Array]
    texture: Array

    @cached_property
    def places(self) -> dict[str, NDArray[np.intp]]:
        """Flat indices of the voxels that each tissue is in, air left out."""
        found = {name: np.flatnonzero(self.fractions[name]) for name in TISSUES[1:]}
        return {name: where for name, where in found.items() if len(where)}

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The tissue that fills most of each voxel, as its index in the tissue table, (x, y, z)."""
        stacked = np.stack([self.fractions[name] for name in TISSUES])
        return np.asarray(stacked.argmax(axis=0), dtype=np.uint8)


def head_points(person: Person, grid: Grid) -> Points:
    """Head coordinates of every voxel: pose, size and a smooth warp of the person undone."""
    matrix = (np.diag(1 / np.asarray(person.size)) @ rotation(person.turn_deg)).astype(np.float32)
    x, y, z = np.meshgrid(*grid.axes(), indexing="ij", sparse=True)
    sx, sy, sz = person.shift_mm
    plain = [m[0] * (x - sx) + m[1] * (y - sy) + m[2] * (z - sz) for m in matrix]
    moved = [
        p + np.float32(person.warp_mm) * field.cloud((plain[0], plain[1], plain[2]))
        for p, field in zip(plain, person.warp, strict=True)
    ]
    return moved[0], moved[1], moved[2]


def draw_head(person: Person, grid: Grid) -> Head:
    """Paint a person's head on a grid."""
    points = head_points(person, grid)
    fractions: dict[str, Array] = {name: np.zeros(grid.shape, np.float32) for name in TISSUES}
    fractions["air"] += 1
    painted = ["air"]
    for tissue, cover, box in structures.layers(
        points, grid.step_mm, person.folding, person.build, person.lesions
    ):
        left = 1 - cover
        for name in painted:
            fractions[name][box] *= left
        fractions[tissue][box] += cover
        if tissue not in painted:
            painted.append(tissue)
    return Head(grid, fractions, person.texture.cloud(points))
