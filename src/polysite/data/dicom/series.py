"""A series as one stack of slices: in order, evenly spaced, nothing missing, nothing twice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polysite.data.dicom.header import Frame, Header, Pixels
from polysite.data.dicom.parameters import number_of
from polysite.data.dicom.scan import Series
from polysite.errors import DataError

MAX_VOXELS = 2**28
"""A float32 volume of 1 GiB; 1024 × 1024 × 256."""
SAME = 1e-4
"""How far direction cosines and relative pixel sizes of one stack may be apart: rounding."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Slice:
    """One slice: a frame of a file."""

    path: Path
    header: Header
    frame: Frame


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume's slices in order and its grid.

    Attributes
    ----------
    slices : list of Slice
        Along the normal: the cross product of a row's and a column's direction.
    shape : tuple of int
        (x, y, z): x along a row, y along a column, z from slice to slice.
    affine : NDArray, (4, 4)
        Index to millimetres, RAS+. (DICOM's own coordinates are LPS.)
    notes : tuple of str
        What is unusual and was taken as it is.
    """

    slices: list[Slice]
    shape: tuple[int, int, int]
    affine: Vector
    notes: tuple[str, ...] = ()


def stack_of(series: Series) -> Stack:
    """Put a series in order.

    Raises
    ------
    DataError
        If it is not one volume: damaged or missing slices, several orientations, sizes or images at one place.
        The message names no file but by its number.
    """
    if series.damaged:
        number, why = series.damaged[0]
        more = f" (and {len(series.damaged) - 1} more)" if len(series.damaged) > 1 else ""
        raise DataError(f"file {number}{more} of it, or beside it, {why}; export the series again")
    slices = [
        Slice(listed.path, header, frame) for _, listed, header in series.files for frame in header.frames
    ]
    _require_alike(slices)
    row, column = _directions(slices)
    normal = np.cross(row, column)
    positions = np.array([piece.frame.position for piece in slices], dtype=np.float64)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    slices, positions, along = [slices[index] for index in order], positions[order], along[order]
    _require_once(slices, along)
    step = _step(slices, positions, normal)
    first = slices[0].frame
    assert first.spacing_mm is not None
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * first.spacing_mm[1], column * first.spacing_mm[0]
    affine[:3, 2], affine[:3, 3] = step, positions[0]
    shape = (slices[0].header.pixels.columns, slices[0].header.pixels.rows, len(slices))
    return Stack(slices, shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, tuple(_notes(series, slices, step)))


def _require_alike(slices: Sequence[Slice]) -> None:
    """Refuse what cannot be one stack of numbers: other sizes, other storage, colours, no place in space."""
    pixels = slices[0].header.pixels
    for piece in slices:
        frame, own = piece.frame, piece.header.pixels
        if piece.header.person != slices[0].header.person:
            raise DataError("its images are of different persons; export the series again")
        if (own.rows, own.columns) != (pixels.rows, pixels.columns):
            raise DataError(
                f"its images are {pixels.columns}×{pixels.rows} and {own.columns}×{own.rows}; a localizer, or two "
                "series under one number"
            )
        if _stored(own) != _stored(pixels):
            raise DataError("its images store their values in different ways; export the series again")
        if frame.position is None or frame.orientation is None or frame.spacing_mm is None:
            raise DataError("an image lacks its position, orientation or pixel spacing; it cannot be placed")
        if frame.slope == 0 or not np.isfinite([frame.slope, frame.intercept]).all():
            raise DataError(
                f"a rescale slope of {frame.slope:g} and intercept of {frame.intercept:g} give no image"
            )
    _require_readable(pixels, len(slices))
    spacings = np.array([piece.frame.spacing_mm for piece in slices], dtype=np.float64)
    if not (spacings > 1e-3).all() or not (spacings < 1e3).all():
        raise DataError(f"a pixel spacing of {spacings.min():g} mm to {spacings.max():g} mm cannot be")
    if (np.abs(spacings / spacings[0] - 1) > SAME).any():
        raise DataError(
            "its images have different pixel spacings; a localizer, or two series under one number"
        )


def _stored(pixels: Pixels) -> tuple[object, ...]:
    return pixels.allocated, pixels.stored, pixels.high_bit, pixels.signed, pixels.photometric


def _require_readable(pixels: Pixels, n_slices: int) -> None:
    if pixels.samples != 1 or pixels.photometric != "MONOCHROME2":
        raise DataError("its images are no grey values where more is brighter (MONOCHROME2)")
    if (
        pixels.allocated not in (8, 16, 32)
        or not 1 <= pixels.stored <= pixels.allocated
        or pixels.high_bit != pixels.stored - 1
    ):
        raise DataError(
            f"values of {pixels.stored} bits in {pixels.allocated}, the highest at {pixels.high_bit}, are not read"
        )
    n_voxels = pixels.rows * pixels.columns * n_slices
    if not 0 < n_voxels <= MAX_VOXELS or min(pixels.rows, pixels.columns) < 1:
        raise DataError(f"{pixels.columns}×{pixels.rows}×{n_slices} voxels; 1 to {MAX_VOXELS} are read")


def _directions(slices: Sequence[Slice]) -> tuple[Vector, Vector]:
    """Unit vectors along a row and a column, of all slices."""
    cosines = np.array([piece.frame.orientation for piece in slices], dtype=np.float64)
    different = np.unique(np.round(cosines / SAME / 2), axis=0) if len(cosines) > 1 else cosines
    if (np.abs(cosines - cosines[0]) > SAME).any():
        raise DataError(
            f"its images lie in {len(different)} orientations; a localizer, or two series under one number"
        )
    row, column = cosines[0, :3], cosines[0, 3:]
    lengths = np.linalg.norm([row, column], axis=1)
    if (np.abs(lengths - 1) > 10 * SAME).any() or abs(float(row @ column)) > 10 * SAME:
        raise DataError("the directions of its rows and columns are no unit vectors at a right angle")
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _require_once(slices: Sequence[Slice], along: Vector) -> None:
    """Refuse several images at one place, and say by what they differ."""
    gaps = np.diff(along)
    typical = float(np.median(gaps[gaps > 1e-3])) if (gaps > 1e-3).any() else 0.0
    same = gaps < max(1e-3, 0.01 * typical)
    if not same.any():
        return
    places = len(slices) - int(same.sum())
    values: dict[str, set[str]] = {}
    for piece in slices:
        for name, value in piece.frame.apart:
            values.setdefault(name, set()).add(value)
    differing = [f"{name} ({len(found)} values)" for name, found in values.items() if len(found) > 1]
    why = f"they differ in {', '.join(differing)}" if differing else "nothing tells them apart"
    raise DataError(
        f"{len(slices)} images lie at {places} places: {why}; only series of one volume are read, so export "
        "the echoes, time frames or components apart"
    )


def _step(slices: Sequence[Slice], positions: Vector, normal: Vector) -> Vector:
    """From one slice to the next, mm; a single slice is as far from a next one as its header says."""
    if len(slices) == 1:
        known = slices[0].header.parameters
        gap = number_of(known.get("SpacingBetweenSlices")) or number_of(known.get("SliceThickness"))
        if not gap or gap <= 0:
            raise DataError("its only image says neither its thickness nor its distance to a next one")
        return normal * gap
    gaps = np.diff(positions @ normal)
    typical = float(np.median(gaps))
    tolerance = max(0.02, 0.02 * typical)
    uneven = np.flatnonzero(np.abs(gaps - typical) > tolerance)
    if len(uneven):
        at = int(uneven[0])
        raise DataError(
            f"a slice seems to be missing: slices {at + 1} and {at + 2} of {len(slices)} are {gaps[at]:.3g} mm apart, "
            f"others {typical:.3g} mm; export the series again"
        )
    step: Vector = (positions[-1] - positions[0]) / (len(slices) - 1)
    straight = positions[0] + np.arange(len(slices))[:, None] * step
    if (np.linalg.norm(positions - straight, axis=1) > tolerance).any():
        raise DataError(
            "its slices do not lie on a straight line; one position is wrong, or these are two series"
        )
    if np.linalg.norm(step - (step @ normal) * normal) > 0.01 * typical:
        raise DataError(
            "its slices are shifted against one another (a sheared stack); such volumes are not read"
        )
    return normal * float(step @ normal)


def _notes(series: Series, slices: Sequence[Slice], step: Vector) -> Iterator[str]:
    if series.n_copies:
        yield f"{series.n_copies} files are copies of others and were passed over"
    if len({(piece.frame.slope, piece.frame.intercept) for piece in slices}) > 1:
        yield "rescale slope or intercept differ between slices; each slice has its own"
    told = number_of(slices[0].header.parameters.get("SpacingBetweenSlices"))
    gap = float(np.linalg.norm(step))
    if told is not None and abs(told - gap) > 0.05 * gap:
        yield f"slices are {gap:.3g} mm apart by their positions, {told:.3g} mm by the header; positions were used"
