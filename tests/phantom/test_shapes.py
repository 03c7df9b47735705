"""Distances and random fields."""

import numpy as np
from numpy.testing import assert_allclose

from polysite.phantom.noise import Field
from polysite.phantom.shapes import common, ellipsoid, membership, sheet, tube, union


def line(n: int = 41, end: float = 20.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.linspace(-end, end, n, dtype=np.float32)
    return x, np.zeros_like(x), np.zeros_like(x)


def test_a_sphere_is_exact() -> None:
    x, y, z = line()
    for power in (2.0, 2.5):
        assert_allclose(ellipsoid((x, y, z), (1, 0, 0), (9, 9, 9), power=power), 9 - np.abs(x - 1), atol=1e-4)


def test_an_ellipsoid_has_the_right_surface_and_slope() -> None:
    directions = np.random.default_rng(0).normal(size=(3, 200))
    radii = np.array([30.0, 50.0, 20.0])
    surface = directions / np.linalg.norm(directions / radii[:, None], axis=0)
    normal = surface / radii[:, None] ** 2
    normal /= np.linalg.norm(normal, axis=0)
    for off in (-1.0, 0.0, 1.0):
        points = tuple((surface + off * normal).astype(np.float32))
        assert_allclose(ellipsoid(points, (0, 0, 0), radii.tolist()), -off, atol=0.05)


def test_a_tube_is_the_distance_to_its_axis() -> None:
    points = line()
    assert_allclose(tube(points, [(0, -50, 0, 4), (0, 50, 0, 4)]), 4 - np.abs(points[0]), atol=1e-5)


def test_membership_keeps_the_volume() -> None:
    """The sum over voxels is the volume, wherever the surface lies between voxel centres."""
    x = np.arange(-30, 30, 2.0, dtype=np.float32)
    for radius in (9.3, 10.0, 11.7):
        assert_allclose(2 * membership(radius - np.abs(x), 2.0).sum(), 2 * radius, rtol=1e-5)


def test_union_and_common_contain_and_are_contained() -> None:
    a, b = np.random.default_rng(1).normal(0, 5, (2, 1000)).astype(np.float32)
    assert (union(a, b, blend_mm=3) >= np.maximum(a, b)).all()
    assert (common(a, b, blend_mm=3) <= np.minimum(a, b)).all()
    far = np.abs(a - b) > 3
    assert_allclose(union(a, b, blend_mm=3)[far], np.maximum(a, b)[far])
    assert_allclose(sheet(a, b), np.where(b > 0, np.hypot(a, b), np.abs(a)), rtol=1e-5)


def test_a_field_is_standard_and_has_its_wavelength() -> None:
    field = Field(np.random.default_rng(0), 26.0, bandwidth=0.4)
    axes = np.meshgrid(*[np.arange(-120, 120, 4.0, dtype=np.float32)] * 3, indexing="ij")
    values = field((axes[0], axes[1], axes[2]))
    assert abs(values.mean()) < 0.05
    assert_allclose(values.std(), 1, atol=0.1)
    power = np.abs(np.fft.rfft(values - values.mean(), axis=2)) ** 2
    frequency = np.fft.rfftfreq(values.shape[2], 4.0)
    # along a line a wave of random direction has a mean square frequency of a third
    mean_square = (power.sum((0, 1)) * frequency**2).sum() / power.sum()
    assert_allclose((3 * mean_square) ** -0.5, 26.0, rtol=0.15)


def test_a_cloud_is_the_field() -> None:
    field = Field(np.random.default_rng(0), 60.0)
    axes = np.meshgrid(*[np.arange(-60, 60, 2.0, dtype=np.float32)] * 3, indexing="ij")
    points = (axes[0], axes[1], axes[2])
    assert np.abs(field.cloud(points) - field(points)).max() < 0.15
