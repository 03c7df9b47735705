"""Windows lose nothing, epochs miss nothing."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysite.data.frame import bounding_box, centred, frame, unframe
from polysite.data.sampling import SliceSampler
from polysite.errors import DataError

sizes = st.integers(1, 30)


@st.composite
def volumes(draw):
    """A volume whose mask is one box, and -1 outside it."""
    shape = (draw(st.integers(1, 4)), draw(sizes), draw(sizes))
    mask = np.zeros(shape, dtype=bool)
    box = []
    for n in shape[1:]:
        low = draw(st.integers(0, n - 1))
        box.append(slice(low, draw(st.integers(low + 1, n))))
    mask[:, box[0], box[1]] = True
    values = np.random.default_rng(draw(st.integers(0, 99))).uniform(-1, 1, shape).astype(np.float32)
    return np.where(mask, values, np.float32(-1)), mask


@given(volumes(), sizes, sizes)
def test_a_prediction_window_loses_nothing_of_the_head(volume_and_mask, nx, ny):
    volume, mask = volume_and_mask
    window = frame(volume.shape, mask, (nx, ny))
    assert all(size % 4 == 0 and size >= n for size, n in zip(window.size, (nx, ny), strict=True))
    np.testing.assert_array_equal(unframe(window.cut(volume), window), volume)


@given(volumes(), sizes, sizes)
def test_a_training_window_has_its_size_and_pads_with_background(volume_and_mask, nx, ny):
    volume, mask = volume_and_mask
    window = centred(volume.shape, mask, (nx, ny))
    cut = window.cut(volume)
    assert cut.shape == (volume.shape[0], nx, ny)
    put = unframe(cut, window)
    assert ((put == volume) | (put == -1)).all()
    box = bounding_box(mask)
    middle = tuple((low + high - 1) // 2 for low, high in box)
    np.testing.assert_array_equal(put[:, middle[0], middle[1]], volume[:, middle[0], middle[1]])


def test_a_window_sits_about_the_middle_of_the_mask():
    mask = np.zeros((2, 20, 30), dtype=bool)
    mask[0, 4:10, 20:28] = True
    window = centred(mask.shape, mask, 4)
    assert (window.start, window.size) == ((5, 22), (4, 4))
    assert bounding_box(np.zeros((2, 5, 6), dtype=bool)) == ((0, 5), (0, 6))


# --- the sampler --------------------------------------------------------------------------------------


def memory_case(number: int, contrasts: tuple[str, ...] = ("T1w", "T2w"), n_slices: int = 5):
    """Slice z of contrast c of case n is filled with the number n + z/10 + c/100 (scaled into range)."""
    shape = (n_slices, 8, 6)
    volumes = {
        name: np.broadcast_to(
            (number + np.arange(n_slices) / 10 + place / 100)[:, None, None] / 10, shape
        ).astype(np.float16)
        for place, name in enumerate(contrasts)
    }
    mask = np.ones(shape, dtype=bool)
    mask[0] = False
    mask[1, 1:] = False  # an eighth of the largest slice
    mask[1, 0, 1:] = False  # now a forty-eighth
    return SimpleNamespace(contrasts=contrasts, slices=volumes.__getitem__, mask=lambda: mask)


TASKS = [("T1w", "T2w"), ("T2w", "FLAIR")]


def sampler(**over):
    cases = [memory_case(1), memory_case(2, ("T1w", "T2w", "FLAIR")), memory_case(3, ("T1w",))]
    return SliceSampler(cases, TASKS, (8, 6), **over)


def test_an_epoch_takes_each_slice_with_foreground_once():
    slices = sampler()
    assert slices.n_slices == 6  # slices 2, 3, 4 of the first two cases; the third has no task
    plan = slices.plan(np.random.default_rng(0), 6)
    assert {tuple(row[:2]) for row in plan} == {(case, index) for case in (0, 1) for index in (2, 3, 4)}
    assert sampler(min_foreground=0.0).n_slices == 8  # an empty slice is never taken


@given(st.integers(0, 40), st.integers(0, 1000))
def test_epochs_follow_one_another(n, seed):
    slices = sampler()
    plan = slices.plan(np.random.default_rng(seed), n)
    assert plan.shape == (n, 3)
    counts = Counter((int(case), int(index)) for case, index, _ in plan)
    assert max(counts.values(), default=0) == -(-n // slices.n_slices)
    assert all(counts[key] >= n // slices.n_slices for key in counts)
    assert not ((plan[:, 0] == 0) & (plan[:, 2] == 1)).any()  # the first case has no FLAIR


def test_a_plan_is_a_function_of_its_generator():
    one, two, other = (sampler().plan(np.random.default_rng(seed), 50) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_tasks_of_a_case_are_equally_likely():
    plan = sampler().plan(np.random.default_rng(1), 6000)
    share = plan[plan[:, 0] == 1, 2].mean()
    assert abs(share - 0.5) < 0.04  # four standard deviations of 3,000 throws


def test_taken_slices_are_the_planned_ones():
    slices = sampler()
    rows = np.array([[0, 4, 0], [1, 2, 1], [1, 2, 0]])
    taken = slices.take(rows)
    assert taken["source"].shape == taken["target"].shape == (3, 1, 8, 6)
    assert (taken["source"].dtype, taken["task"].dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(taken["task"], [0, 1, 0])
    np.testing.assert_allclose(taken["source"][:, 0, 4, 3], [0.14, 0.221, 0.22], atol=1e-3)
    np.testing.assert_allclose(taken["target"][:, 0, 4, 3], [0.141, 0.222, 0.221], atol=1e-3)


def test_a_site_without_pairs_has_no_slices():
    empty = SliceSampler([memory_case(1, ("T1w",))], TASKS, 8)
    assert empty.n_slices == 0
    assert empty.plan(np.random.default_rng(0), 0).shape == (0, 3)
    with pytest.raises(DataError, match="no case has a slice"):
        empty.plan(np.random.default_rng(0), 1)
