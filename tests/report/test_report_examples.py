"""Slices are displayed the right way round, in one stated window a row."""

import base64
import io

import numpy as np
import pytest
from PIL import Image as Picture

from polysite.errors import DataError
from polysite.report.examples import Example, error_gradient, picture_rows, read_example
from polysite.report.picture import display


def _example(synthetic, target, **values):
    defaults = {
        "site": "north",
        "task": "T1w->T2w",
        "subject": "sub-01",
        "slice": 3,
        "source": target,
        "mask": np.ones(target.shape, bool),
        "spacing_mm": (1.0, 1.0),
    }
    return Example(synthetic=synthetic, target=target, **(defaults | values))


def _pixels(uri):
    return np.asarray(Picture.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_patients_left_is_on_the_right_and_anterior_is_up():
    array = np.zeros((5, 7))
    array[0, 6] = 1  # in RAS+: x = 0 is the most left, y = 6 the most anterior
    shown = display(array)
    assert shown.shape == (7, 5)
    assert np.argwhere(shown).tolist() == [[0, 4]]  # first row, last column


def test_one_window_holds_for_every_image_of_a_row():
    ramp = np.linspace(0, 0.5, 64, dtype=np.float32).reshape(8, 8)
    (row,) = picture_rows({"a": [_example(ramp / 2, ramp)]}, ["a"], ["north"])
    assert row.window == 0.5
    assert _pixels(row.target).max() == 255
    assert _pixels(row.columns[0].synthetic).max() == pytest.approx(128, abs=1)


def test_the_error_has_its_own_scale_that_all_methods_share_and_stops_at_the_mask():
    target = np.full((8, 8), 0.5, np.float32)
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    small = _example(target + 0.05, target, mask=mask)
    large = _example(target - 0.10, target, mask=mask)
    (row,) = picture_rows({"small": [small], "large": [large]}, ["small", "large"], ["north"])
    assert row.error_limit == pytest.approx(0.10)
    assert [column.mean_error for column in row.columns] == pytest.approx([0.05, 0.10])
    levels = [_pixels(column.error) for column in row.columns]  # palette indices
    assert (levels[0].max(), levels[1].max()) == (pytest.approx(128, abs=1), 255)
    assert levels[1][0, 0] == 0  # outside the mask, inside the crop's margin


def test_methods_stand_side_by_side_only_with_the_same_slice():
    target = np.full((8, 8), 0.5, np.float32)
    examples = {
        "a": [_example(target, target)],
        "b": [_example(target, target, subject="sub-02")],
        "c": [_example(target, target * 0.9)],
    }
    (row,) = picture_rows(examples, ["a", "b", "c"], ["north"])
    assert [column.method for column in row.columns] == ["a"]
    assert row.left_out == ["b", "c"]


def test_rows_follow_the_sites_and_pictures_the_voxel_size():
    target = np.ones((10, 10), np.float32)
    mask = np.ones((10, 10), bool)
    examples = [
        _example(target, target, site="south"),
        _example(target, target, mask=mask, spacing_mm=(2.0, 1.0)),
    ]
    rows = picture_rows({"a": examples}, ["a"], ["north", "south"])
    assert [row.site for row in rows] == ["north", "south"]
    assert [row.aspect for row in rows] == [2.0, 1.0]


def test_the_gradient_begins_dark_and_ends_light():
    stops = error_gradient().split(", ")
    assert sum(bytes.fromhex(stops[0][1:])) < 40
    assert sum(bytes.fromhex(stops[-1][1:])) > 600


def _save(path, **changes):
    path.parent.mkdir(parents=True)
    images = {name: np.zeros((4, 5), np.float32) for name in ("source", "synthetic", "target")}
    content = {**images, "mask": np.ones((4, 5), bool), "subject": "sub-01", "slice": 2} | changes
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def test_an_example_knows_its_site_and_task_from_its_place(tmp_path):
    found = read_example(_save(tmp_path / "north" / "examples" / "T1w-T2w.npz"))
    assert (found.site, found.task, found.subject, found.slice) == ("north", "T1w->T2w", "sub-01", 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"target": None},
        {"target": np.zeros((5, 4))},
        {"source": np.full((4, 5), np.nan)},
        {"subject": np.array([{"pickled": "object"}], dtype=object)},
        {"slice": "middle"},
    ],
)
def test_a_damaged_example_is_a_data_error_that_names_it(tmp_path, changes):
    path = _save(tmp_path / "north" / "examples" / "T1w-T2w.npz", **changes)
    with pytest.raises(DataError, match=r"T1w-T2w.npz"):
        read_example(path)
