"""The scanner's effects: closed forms and identities."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysite.phantom import scanner
from polysite.phantom.anatomy import Grid

GRID = Grid((40, 44, 36), (2.0, 2.0, 2.0))


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_noise_without_signal_is_rayleigh() -> None:
    noisy = scanner.add_rician_noise(np.zeros((80, 80, 80), np.float32), rng(), sigma=3.0)
    assert_allclose(noisy.mean(), 3 * np.sqrt(np.pi / 2), rtol=5e-3)
    assert_allclose(noisy.var(), (2 - np.pi / 2) * 9, rtol=1e-2)


def test_noise_far_below_the_signal_is_gaussian() -> None:
    noisy = scanner.add_rician_noise(np.full((80, 80, 80), 100, np.float32), rng(), sigma=2.0)
    assert_allclose(noisy.mean(), np.hypot(100, 2), rtol=1e-4)
    assert_allclose(noisy.std(), 2, rtol=1e-2)


def test_no_noise_changes_nothing() -> None:
    signal = rng().random((5, 6, 7), dtype=np.float32)
    assert_allclose(scanner.add_rician_noise(signal, rng(), sigma=0.0), signal)


def test_bias_is_smooth_positive_and_has_mean_one() -> None:
    bias = scanner.draw_bias(rng(), GRID, strength=0.2)
    assert bias.min() > 0
    assert_allclose(bias.mean(), 1, rtol=1e-5)
    assert_allclose(np.log(bias).std(), 0.2, rtol=1e-3)
    assert max(np.abs(np.diff(bias, axis=k)).max() for k in range(3)) < 0.06  # per 2 mm
    assert_allclose(scanner.draw_bias(rng(), GRID, strength=0.0), 1)


def test_a_constant_stays_constant() -> None:
    target = Grid((11, 12, 7), (5.0, 5.0, 7.0))
    constant = np.full(GRID.shape, 3.5, np.float32)
    assert_allclose(scanner.acquire(constant, GRID, target, (5.0, 5.0, 9.0)), 3.5, rtol=1e-5)


def test_the_same_grid_gives_the_same_signal() -> None:
    signal = rng().random(GRID.shape, dtype=np.float32)
    assert_allclose(scanner.acquire(signal, GRID, GRID, GRID.step_mm), signal, atol=1e-6)
    assert_allclose(scanner.move(signal, GRID, np.eye(4)), signal, atol=1e-6)


def test_a_voxel_is_the_mean_of_what_it_covers() -> None:
    signal = rng().random((40, 44, 36), dtype=np.float32)
    halved = Grid((20, 22, 18), (4.0, 4.0, 4.0), GRID.centre_mm)
    blocks = signal.reshape(20, 2, 22, 2, 18, 2).mean((1, 3, 5))
    assert_allclose(scanner.acquire(signal, GRID, halved, halved.step_mm), blocks, atol=1e-5)


def test_thicker_slices_blur_along_z_alone() -> None:
    point = np.zeros(GRID.shape, np.float32)
    point[20, 22, 18] = 1
    seen = scanner.acquire(point, GRID, GRID, (2.0, 2.0, 6.0))
    assert_allclose(seen[20, 22, 17:20], 1 / 3, rtol=1e-5)
    assert_allclose(seen.sum(), 1, rtol=1e-5)


def test_motion_takes_each_point_from_where_it_says() -> None:
    x, y, z = np.meshgrid(*GRID.axes(), indexing="ij")
    motion = scanner.draw_motion(rng(), shift_mm=2.0, turn_deg=2.0)
    moved = scanner.move((x + 2 * y - z).astype(np.float32), GRID, motion)
    at = [motion[k, 0] * x + motion[k, 1] * y + motion[k, 2] * z + motion[k, 3] for k in range(3)]
    inner = (slice(8, -8),) * 3
    assert_allclose(moved[inner], (at[0] + 2 * at[1] - at[2])[inner], atol=1e-3)
    assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-12)


def test_the_gain_is_near_the_site_s_own() -> None:
    generator = rng()
    gains = np.array([scanner.draw_gain(generator, 500.0) for _ in range(4000)])
    assert_allclose(np.exp(np.log(gains).mean()), 500, rtol=0.02)
    assert_allclose(np.log(gains).std(), 0.15, rtol=0.05)


@pytest.mark.parametrize("effect", ["noise", "bias", "motion", "gain"])
def test_effects_draw_from_the_generator_they_are_given(effect: str) -> None:
    draw = {
        "noise": lambda g: scanner.add_rician_noise(np.ones((4, 4, 4), np.float32), g, sigma=1.0),
        "bias": lambda g: scanner.draw_bias(g, GRID, strength=0.2),
        "motion": scanner.draw_motion,
        "gain": lambda g: scanner.draw_gain(g, 1.0),
    }[effect]
    assert np.array_equal(draw(rng()), draw(rng()))
    assert not np.array_equal(draw(rng()), draw(np.random.default_rng(6)))
