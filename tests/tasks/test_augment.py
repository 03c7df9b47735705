"""Random changes of volumes: reproducible, alike in every slice, alike for image and labels."""

import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from polysite.tasks.augment import Augment, Change, draw, moved, recoloured

ALWAYS = Augment(
    mirror=1, rotation=1, scale=1, elastic=1, elastic_spacing=8, bias_field=1, gamma=1, noise=1, noise_std=0.2
)
NEVER = Augment(mirror=0, rotation=0, scale=0, elastic=0)


def disc(shape: tuple[int, int, int] = (3, 41, 36)) -> NDArray[np.int64]:
    """Two nested discs off the centre, labelled 3 and 7, the same in all slices."""
    _, x, y = np.indices(shape)
    far = np.hypot(x - 17, y - 20)
    return np.where(far < 4, 7, np.where(far < 9, 3, 0)).astype(np.int64)


def noise(shape: tuple[int, int, int] = (3, 41, 36), seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def changed(
    image: NDArray[np.float32], labels: NDArray[np.int64], how: Augment, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    change = draw(how, np.random.default_rng(seed))
    image, labels = moved(image, labels, change, how)
    return recoloured(image, change, how), labels


def test_the_same_generator_gives_the_same_volume() -> None:
    (one, one_labels), (same, same_labels) = (changed(noise(), disc(), ALWAYS, 3) for _ in range(2))
    assert np.array_equal(one, same)
    assert np.array_equal(one_labels, same_labels)
    other, other_labels = changed(noise(), disc(), ALWAYS, 4)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one_labels, other_labels)


def test_numpys_and_torchs_own_generators_are_left_alone() -> None:
    import torch

    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    changed(noise(), disc(), ALWAYS, 3)
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_with_probability_0_nothing_changes_bit_for_bit() -> None:
    image, labels = noise(), disc()
    after, after_labels = changed(image, labels, NEVER, 3)
    assert after is image
    assert after_labels is labels
    assert draw(NEVER, np.random.default_rng(0)) == Change()


@pytest.mark.parametrize("seed", range(6))
def test_labels_go_where_the_image_goes(seed: int) -> None:
    """The image is a function of the labels, and still is wherever four neighbours agree."""
    labels = disc()
    image, after = moved(labels.astype(np.float32), labels, draw(ALWAYS, np.random.default_rng(seed)), ALWAYS)
    pure = np.isin(image, [0, 3, 7])
    assert pure.mean() > 0.7
    assert np.array_equal(image[pure].astype(np.int64), after[pure])
    assert set(np.unique(after)) <= {0, 3, 7}
    assert {3, 7} <= set(np.unique(after))


def test_every_slice_moves_alike() -> None:
    image = np.repeat(noise((1, 41, 36)), 4, axis=0)
    after, labels = moved(image, disc((4, 41, 36)), draw(ALWAYS, np.random.default_rng(1)), ALWAYS)
    assert not np.array_equal(after[0], image[0])
    for z in range(1, 4):
        assert np.array_equal(after[z], after[0])
        assert np.array_equal(labels[z], labels[0])
    alone, _ = moved(image[:1], disc((1, 41, 36)), draw(ALWAYS, np.random.default_rng(1)), ALWAYS)
    np.testing.assert_allclose(alone[0], after[0], atol=1e-6)


def test_mirrors_and_quarter_turns_are_exact() -> None:
    image, labels = noise((2, 30, 30)), np.repeat(disc((1, 30, 30)), 2, axis=0)
    for mirror, axes in (((True, False), 1), ((False, True), 2), ((True, True), (1, 2))):
        after, after_labels = moved(image, labels, Change(mirror=mirror), NEVER)
        assert np.array_equal(after, np.flip(image, axes))
        assert np.array_equal(after_labels, np.flip(labels, axes))
    turned, turned_labels = moved(image, labels, Change(angle=math.pi / 2), NEVER)
    np.testing.assert_allclose(turned, np.rot90(image, -1, (1, 2)), atol=1e-4)
    assert np.array_equal(turned_labels, np.rot90(labels, -1, (1, 2)))


@pytest.mark.parametrize("scale", [0.75, 1.25])
def test_a_scale_above_1_enlarges(scale: float) -> None:
    _, x, y = np.indices((1, 101, 101))
    labels = (np.hypot(x - 50, y - 50) < 30).astype(np.int64)
    _, after = moved(labels.astype(np.float32), labels, Change(scale=scale), NEVER)
    assert after.sum() == pytest.approx(scale**2 * labels.sum(), rel=0.02)


def test_bending_with_no_shift_is_the_identity_and_shifts_are_as_large_as_said() -> None:
    image, labels = noise(), disc()
    still, _ = moved(image, labels, Change(bend=5), Augment(elastic_shift=0))
    np.testing.assert_allclose(still, image, atol=1e-4)
    ramp = np.broadcast_to(np.arange(200, dtype=np.float32)[:, None], (1, 200, 200))
    bent, _ = moved(ramp, np.zeros(ramp.shape, np.int64), Change(bend=5), Augment(elastic_shift=3))
    assert 1.5 < np.std((bent - ramp)[:, 20:-20, 20:-20]) < 4


def test_what_comes_in_from_outside_is_as_dark_as_air_and_background() -> None:
    after, labels = moved(noise() + 5, disc() + 1, Change(scale=0.5), NEVER)
    assert after.min() == pytest.approx((noise() + 5).min(), abs=1e-6)
    assert after[0, 0, 0] == pytest.approx((noise() + 5).min(), abs=1e-6)
    assert labels[0, 0, 0] == 0


def test_brightness_changes_keep_the_order_they_should() -> None:
    image = noise()
    brighter = recoloured(image, Change(gamma=0.7), ALWAYS)
    assert np.array_equal(np.argsort(brighter, axis=None)[:100], np.argsort(image, axis=None)[:100])
    np.testing.assert_allclose([brighter.min(), brighter.max()], [image.min(), image.max()], rtol=1e-5)
    field = recoloured(image, Change(bias=4), ALWAYS)
    factor = (field - image.min())[image > 0] / (image - image.min())[image > 0]
    assert field.flat[image.argmin()] == image.min()  # air stays air
    assert factor.min() > 0
    assert np.log(factor).std() > 0.05
    grain = recoloured(np.zeros((8, 64, 64), np.float32), Change(noise=4), ALWAYS)
    assert 0 < grain.std() < 0.2
    assert all(volume.dtype == np.float32 for volume in (brighter, field, grain))


def test_drawn_numbers_are_within_their_ranges() -> None:
    how = Augment(mirror=0.5, rotation=1, rotation_deg=20, scale=1, elastic=0.5)
    changes = [draw(how, np.random.default_rng(seed)) for seed in range(300)]
    assert min(change.scale for change in changes) - 0.01 < 0.7501
    assert all(0.75 <= change.scale <= 1.25 for change in changes)
    assert all(abs(math.degrees(change.angle)) <= 20 for change in changes)
    assert max(math.degrees(change.angle) for change in changes) > 15
    for share in (
        np.mean([change.mirror[0] for change in changes]),
        np.mean([change.mirror[1] for change in changes]),
        np.mean([change.bend is not None for change in changes]),
    ):
        assert 0.4 < share < 0.6


def test_ranges_are_checked() -> None:
    with pytest.raises(ValidationError, match="lower one first"):
        Augment(scale_range=(1.25, 0.75))
    with pytest.raises(ValidationError, match="above 0"):
        Augment(gamma_range=(0, 1))


def test_monai_is_imported_only_to_change_a_volume() -> None:
    code = (
        "import sys, polysite.tasks.segmentation, polysite.tasks.synthesis; "
        "sys.exit(any(name.split('.')[0] == 'monai' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
