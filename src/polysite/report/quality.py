"""A page to look at every prepared case: pictures in three planes, figures beside them, doubts first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import polysite
from polysite.evaluate.table import replace_text
from polysite.report.outlines import outline
from polysite.report.picture import display, jpeg
from polysite.report.template import rendered

TILE_MM = 30.0
"""Side of a checkerboard's tile."""
LONGEST = 132
"""Pixels of a picture's longer side."""


@dataclass(frozen=True)
class Plane:
    """A slice (right, up) through a case.

    Attributes
    ----------
    name : str
        For example ``axial``.
    image : NDArray
        Values from 0 to 1.
    under : NDArray or None
        The reference, of which every second tile is shown.
    region : NDArray of bool
        What is outlined; nothing if it is empty or everything.
    spacing_mm : (float, float)
    sides : (str, str)
        What lies left and right in the picture.
    """

    name: str
    image: NDArray[np.floating[Any]]
    under: NDArray[np.floating[Any]] | None
    region: NDArray[np.bool_]
    spacing_mm: tuple[float, float]
    sides: tuple[str, str]


@dataclass(frozen=True)
class Contrast:
    """A contrast of a case: its planes, its figures as text under the heads of `Page`, and remarks."""

    name: str
    planes: Sequence[Plane]
    figures: Sequence[str]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Looked:
    """A case and the reasons to look at it."""

    site: str
    key: str
    split: str
    reference: str
    contrasts: Sequence[Contrast]
    doubts: Sequence[tuple[str, str]]
    """Contrast and reason."""


@dataclass(frozen=True)
class Picture:
    """A drawn plane: a data URI, its size in pixels, and the outline over it as an SVG path in voxels."""

    name: str
    uri: str
    size: tuple[int, int]
    voxels: tuple[int, int]
    outline: str
    sides: tuple[str, str]


def checkerboard(shape: tuple[int, int], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Which voxels of a slice belong to the odd tiles.

    >>> checkerboard((2, 4), (30.0, 15.0)).astype(int)
    array([[0, 0, 1, 1],
           [1, 1, 0, 0]])
    """
    x, y = (
        np.floor((np.arange(n) + 0.5) * size / TILE_MM).astype(int)
        for n, size in zip(shape, spacing_mm, strict=True)
    )
    return np.asarray((x[:, None] + y[None, :]) % 2 == 1)


def draw(plane: Plane) -> Picture:
    """A plane as a picture with square pixels."""
    values = plane.image
    if plane.under is not None:
        values = np.where(checkerboard(_shape(values), plane.spacing_mm), values, plane.under)
    extent = np.asarray(_shape(values)) * plane.spacing_mm
    width, height = (max(1, round(side)) for side in extent * LONGEST / extent.max())
    known = plane.region.any() and not plane.region.all()
    return Picture(
        name=plane.name,
        uri=jpeg(display(values), (width, height)),
        size=(width, height),
        voxels=_shape(values),
        outline=outline(plane.region) if known else "",
        sides=plane.sides,
    )


def _shape(values: NDArray[Any]) -> tuple[int, int]:
    x, y = values.shape
    return x, y


def write_page(
    cases: Sequence[Looked], out: Path, *, title: str, heads: Sequence[str], about: Sequence[tuple[str, str]]
) -> Path:
    """Write the page: cases in doubt first, then the others in their order.

    Parameters
    ----------
    out : Path
        The HTML file, replaced as a whole. It needs nothing but itself.
    title : str
        The run's name.
    heads : sequence of str
        What each figure of a contrast is.
    about : sequence of (str, str)
        How the cases were prepared: site and settings in words.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    content = {
        "version": polysite.__version__,
        "title": title,
        "heads": heads,
        "about": about,
        "doubted": [case for case in cases if case.doubts],
        "others": [case for case in cases if not case.doubts],
        "n_cases": len(cases),
        "draw": draw,
    }
    replace_text(out, rendered("quality.html", ("report.css", "quality.css"), {}, content))
    return out
