"""Orientation, resampling and registration as identities."""

import itertools
import re

import numpy as np
import pytest

from heads import grid_affine, head
from polysite.data.orient import canonical_affine, from_canonical, orientation_of, to_canonical
from polysite.data.register import Registration, register, size_of
from polysite.data.resample import Grid, resample

CODES = [
    "".join(letters)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*axes)
]
SHAPE = (6, 9, 5)


def rigid(turn_degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """Rotations about x, y and z, then a shift."""
    matrix = np.eye(4)
    for axis, degrees in enumerate(turn_degrees):
        one, two = [other for other in range(3) if other != axis]
        turn = np.eye(4)
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn[one, one] = turn[two, two] = cosine
        turn[one, two], turn[two, one] = -sine, sine
        matrix = turn @ matrix
    matrix[:3, 3] = shift
    return matrix


# --- orientation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", CODES)
def test_every_order_of_storage_goes_to_canonical_and_back_exactly(codes):
    array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    affine = grid_affine(SHAPE, (0.7, 1.1, 3.0), codes)
    orientation = orientation_of(affine)
    canonical = to_canonical(array, orientation)
    there = canonical_affine(affine, orientation, SHAPE)
    np.testing.assert_array_equal(from_canonical(canonical, orientation), array)
    assert (np.diag(there)[:3] > 0).all()
    np.testing.assert_allclose(there[:3, :3], np.diag(np.diag(there)[:3]), atol=1e-12)
    # a voxel is at the same place, whichever way the array is stored
    value = canonical[1, 2, 3]
    (stored,) = np.argwhere(array == value)
    np.testing.assert_allclose(there @ [1, 2, 3, 1], affine @ [*stored, 1], atol=1e-9)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA"])
def test_left_stays_left(codes):
    shape = (33, 38, 31)
    spacing = dict(zip("RAS", (3.0, 3.0, 3.0), strict=True))
    affine = grid_affine(shape, tuple(spacing.values()), codes)
    canonical = to_canonical(head("T1w", shape, affine), orientation_of(affine))
    there = canonical_affine(affine, orientation_of(affine), shape)
    mark = np.linalg.inv(there) @ [-20, 10, 5, 1]
    mirrored = np.linalg.inv(there) @ [20, 10, 5, 1]
    x, y, z = np.round(mark[:3]).astype(int)
    u, v, w = np.round(mirrored[:3]).astype(int)
    assert x < canonical.shape[0] / 2
    assert canonical[x, y, z] < canonical[u, v, w] - 50


# --- resampling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.7, 4.1), (3.0, 2.0, 5.0)])
def test_a_constant_stays_constant_and_the_whole_is_covered(spacing):
    affine = rigid((10, -20, 30), (5, 6, 7)) @ grid_affine(SHAPE, (1.2, 0.8, 2.9), "LAS")
    grid = Grid(SHAPE, affine).with_spacing(spacing)
    np.testing.assert_allclose(grid.spacing_mm, spacing, rtol=1e-12)
    assert (np.asarray(grid.shape) * grid.spacing_mm >= np.asarray(SHAPE) * [1.2, 0.8, 2.9] - 1e-9).all()
    constant = resample(np.full(SHAPE, 7.5, np.float32), affine, grid, fill=-3)
    np.testing.assert_allclose(constant, 7.5, rtol=1e-6)
    back = resample(constant, grid.affine, Grid(SHAPE, affine), fill=-3)
    np.testing.assert_allclose(back, 7.5, rtol=1e-6)


def test_a_ramp_is_resampled_exactly():
    # linear interpolation reproduces a linear function of place; a shifted grid of the same voxel size
    affine = grid_affine(SHAPE, (2.0, 1.0, 3.0))
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    ramp = ((index @ affine[:3, :3].T + affine[:3, 3]) @ [1, -2, 0.5]).astype(np.float32)
    moved = affine.copy()
    moved[:3, 3] += (0.5, 0.3, 0.7)
    inner = resample(ramp, affine, Grid(SHAPE, moved))[:-1, :-1, :-1]
    np.testing.assert_allclose(inner, ramp[:-1, :-1, :-1] + 0.5 - 0.6 + 0.35, atol=1e-4)


def test_the_same_grid_gives_the_same_values_and_outside_is_filled():
    array = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    affine = grid_affine(SHAPE, (1.0, 1.0, 1.0))
    assert resample(array, affine, Grid(SHAPE, affine)) is array
    away = affine.copy()
    away[0, 3] += 100
    assert (resample(array, affine, Grid(SHAPE, away), fill=-1) == -1).all()


def test_a_transform_maps_points_of_the_grid_to_points_of_the_volume():
    affine = grid_affine(SHAPE, (1.0, 1.0, 1.0))
    array = np.zeros(SHAPE, np.float32)
    array[2, 4, 3] = 1
    move = rigid((0, 0, 0), (1, 2, -1))
    moved = resample(array, affine, Grid(SHAPE, affine), transform=move)
    np.testing.assert_array_equal(np.argwhere(moved > 0.5), [[1, 2, 4]])


# --- registration -------------------------------------------------------------------------------------


def registered(
    move: np.ndarray, spacing: tuple[float, float, float] = (2.5, 2.5, 2.5), kind: str = "rigid"
) -> tuple[Registration, float]:
    """T1w and T2w heads of which the second was moved: point of the first -> point of the second."""
    shape = (40, 46, 38)
    fixed_affine = grid_affine(shape, (2.5, 2.5, 2.5))
    moving_shape = tuple(round(n * 2.5 / s) for n, s in zip(shape, spacing, strict=True))
    moving_affine = grid_affine(moving_shape, spacing)
    fixed = head("T1w", shape, fixed_affine)
    moving = head("T2w", moving_shape, moving_affine, np.linalg.inv(move))
    found = register(fixed, fixed_affine, fixed > 100, moving, moving_affine, kind=kind)
    points = np.argwhere(fixed > 100) @ fixed_affine[:3, :3].T + fixed_affine[:3, 3]
    difference = found.transform - move
    return found, np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1)


def test_nothing_to_register_is_found_to_be_nothing():
    found, distance = registered(np.eye(4))
    assert distance.max() < 0.3
    assert found.shift_mm < 0.3
    assert found.rotation_degrees < 0.3


@pytest.mark.parametrize(
    ("turn", "shift", "spacing"),
    [
        ((3, -4, 5), (4, -3, 6), (2.5, 2.5, 2.5)),
        ((-2, 3, 1), (0, 7, -5), (1.5, 1.5, 4.0)),
        ((0, 0, 0), (25, -20, 15), (2.5, 2.5, 2.5)),
    ],
)
def test_a_known_rigid_transform_is_recovered(turn, shift, spacing):
    found, distance = registered(rigid(turn, shift), spacing)
    assert found.warning is None
    assert found.information_after > found.information_before
    assert distance.mean() < 0.3


def test_registering_twice_gives_the_same_bits():
    one, two = (registered(rigid((1, 2, 3), (2, 2, 2)))[0] for _ in range(2))
    np.testing.assert_array_equal(one.transform, two.transform)


def test_what_cannot_be_registered_keeps_the_headers():
    shape = (24, 24, 24)
    affine = grid_affine(shape, (3.0, 3.0, 3.0))
    fixed = head("T1w", shape, affine)
    found = register(fixed, affine, fixed > 100, np.zeros(shape, np.float32), affine)
    np.testing.assert_array_equal(found.transform, np.eye(4))
    assert "the headers' alignment was kept" in found.warning


def stretched(lengths: tuple[float, float, float]) -> np.ndarray:
    """A small movement with a stretch along the axes."""
    return rigid((2, -1, 1), (3, -4, 2)) @ np.diag([*lengths, 1.0])


def test_an_affine_transform_finds_a_stretch_and_a_rigid_one_cannot():
    move = stretched((1.04, 0.97, 1.0))
    rigidly, far = registered(move)
    affinely, near = registered(move, kind="affine")
    assert (rigidly.kind, affinely.kind, rigidly.stretch) == ("rigid", "affine", 0.0)
    assert affinely.information_after > rigidly.information_after
    assert near.mean() < 0.4 < 0.8 < far.mean()
    assert affinely.stretch == pytest.approx(0.04, abs=0.01)
    assert affinely.rotation_degrees == pytest.approx(size_of(move, np.zeros(3))[1], abs=0.5)


def test_an_affine_registration_is_not_worse_where_nothing_is_stretched():
    found, distance = registered(rigid((2, -1, 1), (3, -4, 2)), kind="affine")
    assert distance.mean() < 0.3
    assert found.stretch < 0.01


def test_a_stretch_beyond_what_gradients_do_is_refused_and_the_rigid_one_stays():
    found, _ = registered(stretched((1.25, 1.0, 1.0)), kind="affine")
    assert found.kind == "rigid"
    assert re.fullmatch(
        r"found \d+ mm and \d+° and \d\d % of stretch, not credible, so the rigid transform was kept",
        found.warning,
    )
    np.testing.assert_allclose(found.transform[:3, :3].T @ found.transform[:3, :3], np.eye(3), atol=1e-9)


def test_the_size_of_a_transform_is_its_polar_decomposition():
    turn = rigid((0, 0, 12), (0, 0, 0))
    stretch = np.diag([1.1, 0.95, 1.0, 1.0])
    shift = np.eye(4)
    shift[:3, 3] = (3, 4, 0)
    assert size_of(shift @ turn @ stretch, np.zeros(3)) == pytest.approx((5, 12, 0.1))
    assert size_of(turn, np.zeros(3)) == pytest.approx((0, 12, 0), abs=1e-9)
    # a rotation about another place moves it
    assert size_of(rigid((0, 0, 90), (0, 0, 0)), np.array([10.0, 0, 5]))[0] == pytest.approx(10 * np.sqrt(2))
