"""Slices read one by one are those of the array, and no file stays open."""

from pathlib import Path

import numpy as np
import pytest

from polysite.data.stored import stored_slices
from polysite.errors import DataError


def n_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [np.float16, np.uint8, np.bool_])
def test_slices_are_those_of_the_array(tmp_path, kind):
    array = np.random.default_rng(0).integers(0, 2, (5, 7, 3)).astype(kind)
    np.save(tmp_path / "x.npy", array)
    stored = stored_slices(tmp_path / "x.npy")
    assert (len(stored), stored.shape, stored.dtype) == (5, (5, 7, 3), array.dtype)
    for z in range(5):
        np.testing.assert_array_equal(stored[z], array[z])
    for z in (-1, 5):
        with pytest.raises(IndexError, match="has 5 slices"):
            stored[z]


def test_a_thousand_volumes_need_no_open_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 4), np.float16))
    before = n_open()
    all_of_them = [stored_slices(tmp_path / "x.npy") for _ in range(1000)]
    assert all(stored[1].shape == (4, 4) for stored in all_of_them)
    assert n_open() <= before + 1


def test_a_file_that_vanished_or_shrank_is_named(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 4, 4), np.float16))
    stored = stored_slices(path)
    path.write_bytes(path.read_bytes()[:-1])
    stored[0]
    with pytest.raises(DataError, match=r"x\.npy: is cut short"):
        stored[1]
    path.unlink()
    with pytest.raises(DataError, match=r"x\.npy: cannot be read"):
        stored[0]
