"""Label images: what they must be, and bringing them to another grid without inventing values."""

import numpy as np
from numpy.typing import NDArray

from polysite.data.case import Case
from polysite.data.orient import canonical_affine, from_canonical, orientation_of, to_canonical
from polysite.data.resample import Affine, Grid, resample
from polysite.data.single import volume_of
from polysite.errors import DataError
from polysite.image import Image

Labels = NDArray[np.uint16]

LARGEST = 65_535
ROUNDING = 1e-3
"""How far from a whole number a value may be that a file stores by a scale factor."""


def whole_numbers(label: Image) -> Labels:
    """A label image's values, (x, y, z) as stored.

    Raises
    ------
    DataError
        If it is not one 3-D volume, or holds what is no whole number from 0 to 65535.
    """
    array = volume_of(label)
    rounded = np.rint(array)
    wrong = array[(np.abs(array - rounded) > ROUNDING) | (rounded < 0) | (rounded > LARGEST)]
    if wrong.size:
        values = ", ".join(f"{value:g}" for value in np.unique(wrong)[:3])
        raise DataError(
            f"{label.path}: has {wrong.size} values that are no labels ({values}); labels are whole numbers from 0 "
            f"to {LARGEST}, not probabilities and never interpolated"
        )
    return rounded.astype(np.uint16)


def stored_grid(image: Image) -> Grid:
    """Where an image's voxels lie, in the order in which they are stored."""
    x, y, z = image.shape[:3]
    return Grid((x, y, z), image.affine)


def _difference(own: Grid, wanted: Grid) -> str:
    """How two grids differ, in words."""
    if own.shape != wanted.shape:
        shapes = ("×".join(str(n) for n in grid.shape) for grid in (own, wanted))
        return "{} voxels instead of {} (in the image's order)".format(*shapes)
    apart = np.linalg.norm(own.corners_mm() - wanted.corners_mm(), axis=1).max()
    return f"as many voxels, but up to {apart:.2g} mm away from the image's"


def labels_of(label: Image, image: Image) -> Labels:
    """A label image's values in the order in which its image is stored; another order of storage is undone.

    Raises
    ------
    DataError
        If the label image is no label image, or its voxels are not those of its image.
    """
    values = whole_numbers(label)
    if stored_grid(label).same_as(stored_grid(image)):
        return values
    own, wanted = orientation_of(label.affine), orientation_of(image.affine)
    turned = from_canonical(to_canonical(values, own), wanted)
    x, y, z = turned.shape
    # the affine of the turned array: canonical axes first, from there to the image's order
    to_image = np.linalg.inv(canonical_affine(np.eye(4), wanted, turned.shape))
    grid = Grid((x, y, z), canonical_affine(label.affine, own, values.shape) @ to_image)
    if not grid.same_as(stored_grid(image)):
        raise DataError(
            f"{label.path}: is not on the grid of {image.path}: {_difference(grid, stored_grid(image))}; "
            "bring the labels to the image's grid, or correct the header"
        )
    return turned


def native_labels(case: Case, contrast: str) -> Labels | None:
    """The label image of a case's contrast, (x, y, z) as its image is stored; None if it has none.

    Raises
    ------
    DataError
        If a file cannot be read, or the label image does not fit its image.
    """
    label = case.label_image(contrast)
    return None if label is None else labels_of(label, case.image(contrast))


def resample_labels(labels: Labels, affine: Affine, grid: Grid) -> Labels:
    """Labels on another grid: each label's mask is interpolated linearly, and the largest share wins.

    A border then lies where the mask is half, to a fraction of a voxel; nearest neighbours would move it by up
    to half a voxel and tear thin walls. It is also how predictions are brought back. Of equal shares the
    lowest label wins; outside of the image is 0. On the same grid labels stay as they are.

    Parameters
    ----------
    labels : NDArray of uint16, (x, y, z)
    affine : NDArray, (4, 4)
        Of the labels, voxel to mm, RAS+.
    grid : Grid
        Where labels are wanted.
    """
    x, y, z = labels.shape
    if Grid((x, y, z), affine).same_as(grid):
        return labels
    best = np.full(grid.shape, -1.0, np.float32)
    winner = np.zeros(grid.shape, np.uint16)
    for value in np.unique(np.append(labels, np.uint16(0))):
        share = resample((labels == value).astype(np.float32), affine, grid, fill=float(value == 0))
        more = share > best
        best[more], winner[more] = share[more], value
    return winner


def volumes_ml(labels: Labels, spacing_mm: NDArray[np.float64]) -> dict[str, float]:
    """The volume of each label above 0."""
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return {str(value): round(float(n) * voxel_ml, 6) for value, n in zip(values, counts, strict=True)}
