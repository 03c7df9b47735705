"""Regions against closed forms and brute force, with the voxel size; the policy for empty regions as a table."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluate.scores import make_score
from polysite.errors import DataError
from polysite.predictions.overlap import (
    ejection_fraction,
    score_region,
    surface_distances,
    with_ejection_fraction,
)

SPACING = (1.5, 2.0, 8.0)


def cube(at=(4, 4, 2), size=(6, 5, 3), shape=(16, 14, 8)):
    region = np.zeros(shape, bool)
    region[tuple(slice(start, start + n) for start, n in zip(at, size, strict=True))] = True
    return region


def surface(region):
    """Centres of the voxels with a face neighbour outside, by looking at each."""
    padded = np.pad(region, 1)
    points = []
    for index in np.argwhere(padded):
        neighbours = [index + step for axis in np.eye(3, dtype=int) for step in (axis, -axis)]
        if not all(padded[tuple(neighbour)] for neighbour in neighbours):
            points.append(index)
    return np.array(points)


def brute_force(first, second, spacing_mm):
    a, b = (surface(region) * np.array(spacing_mm) for region in (first, second))
    distances = np.linalg.norm(a[:, None] - b[None], axis=2)
    there, back = distances.min(axis=1), distances.min(axis=0)
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_those_of_every_pair_of_surface_voxels(seed):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(size=(7, 6, 5)) > threshold for threshold in (0.6, 0.8))
    assert surface_distances(first, second, SPACING) == pytest.approx(
        brute_force(first, second, SPACING), rel=1e-5
    )


def test_a_region_that_fills_the_image_has_its_surface_at_the_edge():
    whole, inner = np.ones((5, 5, 5), bool), cube((1, 1, 1), (3, 3, 3), (5, 5, 5))
    assert surface_distances(whole, inner, SPACING) == pytest.approx(brute_force(whole, inner, SPACING))


@pytest.mark.parametrize("axis", range(3))
def test_two_flat_plates_are_as_far_apart_as_they_were_shifted(axis):
    shape = [9, 9, 9]
    first = np.zeros(shape, bool)
    first[(slice(None),) * axis + (3,)] = True
    second = np.roll(first, 2, axis=axis)
    score = score_region(second, first, spacing_mm=SPACING)
    assert score.hd95_mm == pytest.approx(2 * SPACING[axis])
    assert score.assd_mm == pytest.approx(2 * SPACING[axis])
    assert score.dice == 0


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (0, 3), (1, 2), (2, 1)])
def test_a_shifted_cube_keeps_its_share_and_its_volume(axis, steps):
    truth = cube()
    score = score_region(np.roll(truth, steps, axis=axis), truth, spacing_mm=SPACING)
    n = (6, 5, 3)[axis]
    assert score.dice == pytest.approx((n - steps) / n)
    assert score.hd95_mm == pytest.approx(steps * SPACING[axis])
    assert score.volume_ml == score.true_volume_ml == pytest.approx(6 * 5 * 3 * 1.5 * 2 * 8 / 1000)
    assert score.volume_error_ml == 0


def test_equal_regions_are_perfect_and_one_voxel_is_a_surface():
    for region in (cube(), cube(size=(1, 1, 1))):
        score = score_region(region, region, spacing_mm=SPACING)
        assert (score.dice, score.hd95_mm, score.assd_mm, score.volume_error_ml) == (1, 0, 0, 0)


@given(st.integers(0, 2**32 - 1))
def test_swapping_both_changes_only_which_volume_is_whose(seed):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(size=(5, 4, 3)) > threshold for threshold in (0.5, 0.9))
    there, back = (score_region(a, b, spacing_mm=SPACING) for a, b in ((first, second), (second, first)))
    assert (there.dice, there.hd95_mm, there.volume_error_ml) == (
        back.dice,
        back.hd95_mm,
        back.volume_error_ml,
    )
    assert there.assd_mm == pytest.approx(back.assd_mm)
    assert (there.volume_ml, there.true_volume_ml) == (back.true_volume_ml, back.volume_ml)


def test_distances_grow_with_the_voxels_and_overlap_does_not():
    truth, prediction = cube(), cube(at=(5, 4, 3))
    small = score_region(prediction, truth, spacing_mm=SPACING)
    large = score_region(prediction, truth, spacing_mm=tuple(2 * size for size in SPACING))
    assert large.dice == small.dice
    assert (large.hd95_mm, large.assd_mm) == pytest.approx((2 * small.hd95_mm, 2 * small.assd_mm))
    assert large.volume_ml == pytest.approx(8 * small.volume_ml)


DIAGONAL = math.sqrt((16 * 1.5) ** 2 + (14 * 2.0) ** 2 + (8 * 8.0) ** 2)
VOLUME = 6 * 5 * 3 * 24 / 1000


@pytest.mark.parametrize(
    ("predicted", "there", "dice", "distance", "error"),
    [
        (False, False, 1.0, None, 0.0),
        (True, False, 0.0, DIAGONAL, VOLUME),
        (False, True, 0.0, DIAGONAL, VOLUME),
    ],
)
def test_the_policy_for_empty_regions(predicted, there, dice, distance, error):
    empty = np.zeros((16, 14, 8), bool)
    score = score_region(cube() if predicted else empty, cube() if there else empty, spacing_mm=SPACING)
    assert score.dice == dice
    assert (score.hd95_mm, score.assd_mm) == (distance and pytest.approx(distance),) * 2
    assert score.volume_error_ml == pytest.approx(error)


def test_missing_a_structure_is_never_better_than_a_poor_outline_of_it():
    truth = cube()
    corner = cube(at=(15, 13, 7), size=(1, 1, 1))
    missed = score_region(np.zeros_like(truth), truth, spacing_mm=SPACING)
    poor = score_region(corner, truth, spacing_mm=SPACING)
    assert missed.hd95_mm > poor.hd95_mm
    assert missed.assd_mm > poor.assd_mm


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "message"),
    [
        ((16, 14, 7), SPACING, "one grid"),
        ((16, 14, 8), (1.5, 2.0, 0.0), "three positive numbers"),
        ((16, 14, 8), (1.5, 2.0), "three positive numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(shape, spacing_mm, message):
    with pytest.raises(DataError, match=message):
        score_region(np.ones(shape, bool), cube(), spacing_mm=spacing_mm)


# --- ejection fraction --------------------------------------------------------------------------------


def frame(image, predicted_ml, true_ml, **values):
    return make_score(
        kind="segmentation", image=image, volume_ml=predicted_ml, true_volume_ml=true_ml, **values
    )


def test_the_ejection_fraction_goes_from_end_diastole_to_end_systole_whatever_else_was_scanned():
    rows = [frame("ES", 90.0, 60.0), frame("ED", 100.0, 150.0), frame("LGE", 300.0, 10.0)]
    rows.append(frame("ED", 1.0, 1.0, task="MYO"))
    found = with_ejection_fraction(rows)
    (row,) = [row for row in found if row.metrics["ef_error_percent"] is not None]
    assert (row.image, row.task) == ("ES", "LV")
    assert row.details["true_ef_percent"] == pytest.approx(60.0)
    assert row.details["ef_percent"] == pytest.approx(10.0)
    assert row.metrics["ef_error_percent"] == pytest.approx(50.0)
    assert [other for other in found if other is not row] == rows[1:]


@pytest.mark.parametrize(
    "rows",
    [
        [frame("ED", 100.0, 100.0)],
        [frame("ED", 100.0, 100.0), frame("LGE", 50.0, 50.0)],
        [frame("ED", 100.0, 100.0), frame("ED", 50.0, 50.0, subject="sub-02")],
        [frame("ED", 100.0, 100.0), frame("ES", 50.0, 50.0, session="2")],
        [frame(image, 100.0, 100.0, task="RV") for image in ("ED", "ES")],
    ],
)
def test_one_image_of_a_visit_or_no_left_ventricle_gives_none(rows):
    assert with_ejection_fraction(rows) == rows


def test_a_ventricle_that_is_not_found_has_no_ejection_fraction():
    rows = [frame("ED", 0.0, 100.0), frame("ES", 0.0, 40.0)]
    found = with_ejection_fraction(rows)[1]
    assert (found.details["ef_percent"], found.details["true_ef_percent"]) == (None, 60.0)
    assert found.metrics["ef_error_percent"] is None
    assert ejection_fraction(0.0, 0.0) is None
