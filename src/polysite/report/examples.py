"""Example slices as pictures: anatomical display, one window a row, the error with its own scale."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from polysite.errors import DataError
from polysite.report.picture import crop_to, display, png

ERROR_MAP = "magma"
MARGIN = 4
"""Voxels that are kept around the head when a row is cropped."""


@dataclass(frozen=True)
class Example:
    """One slice (x, y) in [0, 1] of a test subject, RAS+, and where it comes from."""

    site: str
    task: str
    subject: str
    slice: int
    source: NDArray[np.float32]
    synthetic: NDArray[np.float32]
    target: NDArray[np.float32]
    mask: NDArray[np.bool_]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class Column:
    """One method in a row: PNG data URIs and the mean absolute error inside the mask."""

    method: str
    synthetic: str
    error: str
    mean_error: float


@dataclass(frozen=True)
class Row:
    """The pictures of one site and task; ``window`` and ``error_limit`` are values in the scale [0, 1]."""

    site: str
    task: str
    subject: str
    slice: int
    source: str
    target: str
    columns: list[Column]
    left_out: list[str]
    window: float
    error_limit: float
    aspect: float


def read_example(file: Path) -> Example:
    """Read ``predictions/<site>/examples/<source>-<target>.npz``.

    Raises
    ------
    DataError
        If the file is damaged, lacks an array, or its shapes differ.
    """
    try:
        # opened here, because np.load leaves a file open that is no archive
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            images = {
                name: np.asarray(stored[name], np.float32) for name in ("source", "synthetic", "target")
            }
            mask = (
                np.asarray(stored["mask"]).astype(bool)
                if "mask" in stored
                else np.ones_like(images["target"], bool)
            )
            subject, index = str(stored["subject"]), int(stored["slice"])
            spacing = np.asarray(stored["spacing_mm"], float) if "spacing_mm" in stored else np.ones(2)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read as an example slice: {error}") from error
    shapes = {array.shape for array in (*images.values(), mask)}
    if len(shapes) > 1 or images["target"].ndim != 2 or images["target"].size == 0 or spacing.shape != (2,):
        raise DataError(
            f"{file}: source, synthetic, target and mask must be slices of one shape, not {shapes}"
        )
    if not all(np.isfinite(array).all() for array in images.values()) or not (spacing > 0).all():
        raise DataError(f"{file}: has values that are not finite")
    source, _, target = file.stem.partition("-")
    return Example(
        site=file.parent.parent.name,
        task=f"{source}->{target}" if target else file.stem,
        subject=subject,
        slice=index,
        mask=mask,
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        **images,
    )


def picture_rows(
    examples: Mapping[str, Sequence[Example]], methods: Sequence[str], sites: Sequence[str]
) -> list[Row]:
    """A row for each site and task, with a column for each method that shows the same slice.

    Parameters
    ----------
    examples : mapping of method to examples
        Of one run for each method.
    methods, sites : sequence of str
        The order of the columns and of the rows.
    """
    found: dict[tuple[str, str], dict[str, Example]] = {}
    for method in methods:
        for example in examples.get(method, ()):
            found.setdefault((example.site, example.task), {})[method] = example
    order = {site: index for index, site in enumerate(sites)}
    keys = sorted(found, key=lambda key: (order.get(key[0], len(order)), key))
    return [_row(found[key]) for key in keys]


def error_gradient() -> str:
    """The error's colours as a CSS gradient, from 0 to the stated limit."""
    stops = (colormaps[ERROR_MAP](value) for value in np.linspace(0, 1, 9))
    return ", ".join("#" + "".join(f"{round(255 * part):02x}" for part in stop[:3]) for stop in stops)


def _row(by_method: Mapping[str, Example]) -> Row:
    first = next(iter(by_method.values()))
    same = {method: example for method, example in by_method.items() if _same_slice(first, example)}
    errors = {
        method: np.abs(example.synthetic - example.target) * example.mask for method, example in same.items()
    }
    shown = np.concatenate([image[first.mask] for image in (first.source, first.target)])
    window = _round_up(float(np.quantile(shown, 0.995))) if shown.size else 1.0
    inside = np.concatenate([error[first.mask] for error in errors.values()])
    limit = _round_up(float(np.quantile(inside, 0.99))) if inside.size else 1.0
    crop = crop_to(first.mask, (MARGIN, MARGIN))

    def grey(image: NDArray[np.float32]) -> str:
        return png(display(image[crop]) / window)

    return Row(
        site=first.site,
        task=first.task,
        subject=first.subject,
        slice=first.slice,
        source=grey(first.source),
        target=grey(first.target),
        columns=[
            Column(
                method=method,
                synthetic=grey(example.synthetic),
                error=png(display(errors[method][crop]) / limit, colours=ERROR_MAP),
                mean_error=float(errors[method][first.mask].mean()) if first.mask.any() else 0.0,
            )
            for method, example in same.items()
        ],
        left_out=[method for method in by_method if method not in same],
        window=window,
        error_limit=limit,
        aspect=_aspect(first, crop),
    )


def _same_slice(first: Example, other: Example) -> bool:
    return (
        (first.subject, first.slice, first.target.shape) == (other.subject, other.slice, other.target.shape)
        and bool(np.allclose(first.target, other.target, atol=1e-3))
        and bool((first.mask == other.mask).all())
    )


def _round_up(value: float) -> float:
    """To two digits, so that the caption states exactly what is drawn; never 0."""
    return max(ceil(100 * value - 1e-9) / 100, 0.01)


def _aspect(example: Example, crop: tuple[slice, slice]) -> float:
    """Width over height of the picture in mm."""
    n_x, n_y = example.target[crop].shape
    return float(n_x * example.spacing_mm[0] / (n_y * example.spacing_mm[1]))
