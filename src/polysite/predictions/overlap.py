"""How well a predicted region covers the true one: Dice, surface distances, volumes, ejection fraction.

Distances come from MONAI and always know the voxel size. A region's surface are its voxels with a face
neighbour outside the region; distances run between the centres of such voxels.
"""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from polysite.errors import DataError
from polysite.evaluate.table import Score

Region = NDArray[np.bool_]

PERCENTILE = 95.0
VENTRICLE = "LV"
"""The class whose volumes give the ejection fraction."""
END_DIASTOLE, END_SYSTOLE = "ED", "ES"
"""The images that it is taken from."""


@dataclass(frozen=True)
class RegionScore:
    """The scores of one region of one image; None: not defined."""

    dice: float
    hd95_mm: float | None
    assd_mm: float | None
    volume_ml: float
    true_volume_ml: float

    @property
    def volume_error_ml(self) -> float:
        """How far the volumes are apart, without sign."""
        return abs(self.volume_ml - self.true_volume_ml)


def score_region(prediction: Region, truth: Region, *, spacing_mm: tuple[float, float, float]) -> RegionScore:
    """All metrics of one region.

    Where a region is empty there is no surface. If it is missing in one of the two, Dice is 0 and the
    distances are the image's diagonal, the largest that they can be, so that missing a structure never
    makes a mean better. If it is rightly missing in both, Dice is 1 and the distances are not defined.

    Parameters
    ----------
    prediction, truth : bool array (x, y, z)
        On one grid.
    spacing_mm : (float, float, float)
        Voxel size along the arrays' axes.

    Raises
    ------
    DataError
        If the shapes differ or are not three-dimensional, or a voxel size is not a positive number.

    Examples
    --------
    >>> truth = np.zeros((8, 8, 8), bool)
    >>> truth[2:4, 2:4, 2:4] = True
    >>> score_region(np.roll(truth, 1, axis=2), truth, spacing_mm=(1.0, 1.0, 5.0)).dice
    0.5
    """
    if prediction.shape != truth.shape or truth.ndim != 3:
        raise DataError(
            f"the prediction has shape {prediction.shape} and the truth {truth.shape}; both must be (x, y, z) "
            "of one grid"
        )
    if len(spacing_mm) != 3 or not all(np.isfinite(size) and size > 0 for size in spacing_mm):
        raise DataError(f"spacing_mm must be three positive numbers, not {spacing_mm}")
    n_predicted, n_true = int(np.count_nonzero(prediction)), int(np.count_nonzero(truth))
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    if n_predicted and n_true:
        dice = 2 * int(np.count_nonzero(prediction & truth)) / (n_predicted + n_true)
        distances: tuple[float | None, float | None] = surface_distances(prediction, truth, spacing_mm)
    elif n_predicted or n_true:
        dice = 0.0
        diagonal = sqrt(sum((n * size) ** 2 for n, size in zip(truth.shape, spacing_mm, strict=True)))
        distances = diagonal, diagonal
    else:
        dice, distances = 1.0, (None, None)
    return RegionScore(dice, *distances, n_predicted * voxel_ml, n_true * voxel_ml)


def surface_distances(
    prediction: Region, truth: Region, spacing_mm: tuple[float, float, float]
) -> tuple[float, float]:
    """HD95 and average symmetric surface distance in mm, of two regions that are not empty.

    HD95 is the larger of the two directed 95th percentiles; the average is over the distances of both
    surfaces taken together, so that the larger surface weighs more.
    """
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    # one batch, one channel; distances do not change when both regions are cropped together
    box = _box(prediction | truth)
    pair = [np.ascontiguousarray(region[box])[None, None] for region in (prediction, truth)]
    given = {"include_background": True, "spacing": list(spacing_mm)}
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it passes to itself
        warnings.simplefilter("ignore", FutureWarning)
        hd95 = compute_hausdorff_distance(*pair, percentile=PERCENTILE, **given)
        assd = compute_average_surface_distance(*pair, symmetric=True, **given)
    return float(hd95[0, 0]), float(assd[0, 0])


def _box(region: Region) -> tuple[slice, ...]:
    edges = []
    for axis in range(region.ndim):
        kept = np.flatnonzero(region.any(axis=tuple(other for other in range(region.ndim) if other != axis)))
        edges.append(slice(int(kept[0]), int(kept[-1]) + 1))
    return tuple(edges)


def ejection_fraction(diastolic_ml: float, systolic_ml: float) -> float | None:
    """Share of the blood that a beat ejects, in percent; None where there was none.

    >>> ejection_fraction(120.0, 48.0)
    60.0
    """
    return 100 * (diastolic_ml - systolic_ml) / diastolic_ml if diastolic_ml > 0 else None


def with_ejection_fraction(scores: Sequence[Score]) -> list[Score]:
    """Segmentation scores with the ejection fraction of every visit that has the images ``ED`` and ``ES``.

    The names decide, because a visit may have further images (late enhancement) whose ventricles are no
    other moment of the same beat. The values stand once, in the ventricle's score at end-systole.
    """
    visits: dict[tuple[object, ...], dict[str, Score]] = defaultdict(dict)
    for row in scores:
        if row.task == VENTRICLE:
            visits[row.method, row.seed, row.site, row.subject, row.session][row.image] = row
    completed = {
        by_image[END_SYSTOLE].key: _completed(by_image[END_DIASTOLE], by_image[END_SYSTOLE])
        for by_image in visits.values()
        if {END_DIASTOLE, END_SYSTOLE} <= set(by_image)
    }
    return [completed.get(row.key, row) for row in scores]


def _completed(diastole: Score, systole: Score) -> Score:
    predicted, true = (
        ejection_fraction(_volume(diastole, name), _volume(systole, name))
        for name in ("volume_ml", "true_volume_ml")
    )
    error = None if predicted is None or true is None else abs(predicted - true)
    return replace(
        systole,
        metrics={**systole.metrics, "ef_error_percent": error},
        details={**systole.details, "ef_percent": predicted, "true_ef_percent": true},
    )


def _volume(row: Score, name: str) -> float:
    value = row.details[name]
    assert isinstance(value, int | float)
    return float(value)
