"""Example slices of a segmentation: the image, and true and predicted outlines drawn over it."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from polysite.errors import DataError
from polysite.report.picture import crop_to, display, png

MARGIN_MM = 15.0
"""What is kept around the labels when a row is cropped."""
N_STYLES = 6


@dataclass(frozen=True)
class Outlines:
    """Slices (n, x, y) of one test subject's image, and where they come from.

    The axes run to the left and up of a picture once `display` has turned it; ``sides`` says what lies left
    and right. ``names`` maps label values to classes, background left out.
    """

    site: str
    image_name: str
    subject: str
    image: NDArray[np.float32]
    truth: NDArray[np.integer[Any]]
    predicted: NDArray[np.integer[Any]]
    window: tuple[float, float]
    slices: tuple[int, ...]
    places: tuple[str, ...]
    names: Mapping[int, str]
    spacing_mm: tuple[float, float]
    sides: tuple[str, str]


@dataclass(frozen=True)
class Path2D:
    """The outlines of one class as an SVG path, and the number of its style."""

    d: str
    style: int


@dataclass(frozen=True)
class Column:
    """One method's outlines in a row."""

    method: str
    paths: list[Path2D]


@dataclass(frozen=True)
class Row:
    """One slice: the picture as a data URI, its size in pixels, and the outlines over it."""

    place: str
    slice: int
    picture: str
    width: int
    height: int
    truth: list[Path2D]
    columns: list[Column]


@dataclass(frozen=True)
class Entry:
    """A class in the legend."""

    name: str
    style: int


@dataclass(frozen=True)
class Figure:
    """All rows of one site's image."""

    site: str
    image: str
    subject: str
    rows: list[Row]
    legend: list[Entry]
    left_out: list[str]
    low: str
    high: str
    aspect: float
    sides: tuple[str, str]


def read_outlines(file: Path) -> Outlines:
    """Read ``predictions/<site>/examples/<image>.npz``.

    Raises
    ------
    DataError
        If the file is damaged, lacks an array, or its shapes do not fit.
    """
    try:
        # opened here, because np.load leaves a file open that is no archive
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            image = np.asarray(stored["image"], np.float32)
            truth, predicted = (np.asarray(stored[name], np.int64) for name in ("truth", "predicted"))
            low, high = (float(value) for value in stored["window"])
            x_mm, y_mm = (float(value) for value in stored["spacing_mm"])
            left, right = (str(value) for value in stored["sides"])
            values = [int(value) for value in stored["values"]]
            names = [str(name) for name in stored["names"]]
            slices, places = [int(n) for n in stored["slices"]], [str(place) for place in stored["places"]]
            subject = str(stored["subject"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read as example outlines: {error}") from error
    shapes = {array.shape for array in (image, truth, predicted)}
    fitting = len(values) == len(names) and len(slices) == len(places) == len(image)
    if len(shapes) > 1 or image.ndim != 3 or image.size == 0 or not fitting:
        raise DataError(f"{file}: image, truth and predicted must be slices of one shape, not {shapes}")
    if not (np.isfinite(image).all() and np.isfinite([low, high]).all() and x_mm > 0 and y_mm > 0):
        raise DataError(f"{file}: has values that are not finite")
    return Outlines(
        site=file.parent.parent.name,
        image_name=file.stem,
        subject=subject,
        image=image,
        truth=truth,
        predicted=predicted,
        window=(low, high if high > low else low + 1),
        slices=tuple(slices),
        places=tuple(places),
        names={value: name for value, name in zip(values, names, strict=True) if value},
        spacing_mm=(x_mm, y_mm),
        sides=(left, right),
    )


def outline_figures(
    outlines: Mapping[str, Sequence[Outlines]], methods: Sequence[str], sites: Sequence[str]
) -> list[Figure]:
    """A figure for each site and image, with a column for each method that shows the same slices.

    Parameters
    ----------
    outlines : mapping of method to outlines
        Of one run for each method.
    methods, sites : sequence of str
        The order of the columns and of the figures.
    """
    found: dict[tuple[str, str], dict[str, Outlines]] = {}
    for method in methods:
        for shown in outlines.get(method, ()):
            found.setdefault((shown.site, shown.image_name), {})[method] = shown
    order = {site: index for index, site in enumerate(sites)}
    keys = sorted(found, key=lambda key: order.get(key[0], len(order)))
    names = dict.fromkeys(
        name for key in keys for shown in found[key].values() for name in shown.names.values()
    )
    styles = {name: index % N_STYLES for index, name in enumerate(names)}
    return [_figure(found[key], styles) for key in keys]


def outline(region: NDArray[np.bool_]) -> str:
    """The outlines of a region (x, y) as an SVG path in the picture that `display` makes of it.

    >>> outline(np.array([[False, False], [True, False]]))
    'M0.0 1.5L0.5 2.0L1.0 1.5L0.5 1.0Z'
    """
    n_x, n_y = region.shape
    parts = []
    # a rim of zeros closes what touches the edge; the half moves from voxel centres to the picture's corner
    for points in find_contours(np.pad(region, 1).astype(np.float64), 0.5):
        corners = [f"{n_x + 0.5 - x:.1f} {n_y + 0.5 - y:.1f}" for x, y in points[:-1]]
        parts.append(f"M{'L'.join(corners)}Z")
    return "".join(parts)


def _figure(by_method: Mapping[str, Outlines], styles: Mapping[str, int]) -> Figure:
    first = next(iter(by_method.values()))
    same = {method: shown for method, shown in by_method.items() if _same_slices(first, shown)}
    labels = [first.truth, *(shown.predicted for shown in same.values())]
    x_mm, y_mm = first.spacing_mm
    crop = crop_to(
        np.any([array.any(axis=0) for array in labels], axis=0),
        (round(MARGIN_MM / x_mm), round(MARGIN_MM / y_mm)),
    )
    low, high = first.window

    def paths(its: NDArray[np.integer[Any]]) -> list[Path2D]:
        return [
            Path2D(outline(its[crop] == value), styles[name])
            for value, name in first.names.items()
            if (its[crop] == value).any()
        ]

    rows = []
    for index, place in enumerate(first.places):
        picture = display((first.image[index][crop] - low) / (high - low))
        rows.append(
            Row(
                place=place,
                slice=first.slices[index],
                picture=png(picture),
                width=picture.shape[1],
                height=picture.shape[0],
                truth=paths(first.truth[index]),
                columns=[Column(method, paths(shown.predicted[index])) for method, shown in same.items()],
            )
        )
    n_y, n_x = rows[0].height, rows[0].width
    return Figure(
        site=first.site,
        image=first.image_name,
        subject=first.subject,
        rows=rows,
        legend=[Entry(name, style) for name, style in styles.items()],
        left_out=[method for method in by_method if method not in same],
        low=f"{low:.4g}",
        high=f"{high:.4g}",
        aspect=n_x * first.spacing_mm[0] / (n_y * first.spacing_mm[1]),
        sides=first.sides,
    )


def _same_slices(first: Outlines, other: Outlines) -> bool:
    return (
        (first.subject, first.slices, first.names) == (other.subject, other.slices, other.names)
        and first.truth.shape == other.truth.shape
        and bool((first.truth == other.truth).all())
    )
