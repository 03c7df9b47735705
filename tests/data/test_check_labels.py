"""Each kind of trouble with label images is one finding that names the place."""

from dataclasses import replace

import numpy as np
import pytest

from heart_files import short_axis, write_heart
from polysite.config.prepare import Prepare
from polysite.config.run import Run
from polysite.config.site import Site
from polysite.data.case import Case
from polysite.data.check import check_found, check_run, check_site
from polysite.image import read_image, write_image

LABELS = {"LV": 1, "MYO": 2, "RV": 3}


def check(*cases: Case, labels: dict = LABELS) -> list[tuple[str, str, str, str]]:
    site = Site(data={"format": "bids", "path": "nowhere"}, labels=labels)
    found = check_site("north", cases, site, Prepare())
    return [(one.level, one.case, one.contrast, one.message) for one in found]


def rewrite(case: Case, change, dtype: str = "float32") -> None:
    label = read_image(case.labels["ED"])
    write_image(label.with_array(change(label.array.copy())), case.labels["ED"], dtype=dtype)


def only(found: list[tuple[str, str, str, str]], level: str, contrast: str, words: str) -> None:
    assert len(found) == 1, found
    assert found[0][0] == level
    assert found[0][2] == contrast
    assert words in found[0][3]


@pytest.fixture
def case(tmp_path):
    return write_heart(tmp_path)


def test_good_cases_have_no_finding(tmp_path, case):
    two = write_heart(tmp_path, "02", ("ED", "ES"))
    assert check(case, two) == [], "one image is enough, no pairs are needed"


def half(array):
    array[3, 3, 3] = 1.5
    return array


def with_nan(array):
    array[3, 3, 3] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (half, "error", "has 1 values that are no labels (1.5)"),
        (with_nan, "error", "has 1 NaN or infinite"),
        (lambda array: -array, "error", "that are no labels (-3, -2, -1)"),
        (lambda array: np.stack([array, array], axis=3), "error", "must be one 3-D volume"),
        (lambda array: array[:, :, :8], "error", "41×37×8 voxels instead of 41×37×9"),
        (lambda array: 0 * array, "warning", "is empty: no voxel has a label"),
    ],
)
def test_values_and_dimensions(tmp_path, case, change, level, words):
    rewrite(case, change)
    other = write_heart(tmp_path, "02")
    only(check(case, other), level, "ED", words)
    assert str(case.labels["ED"]) in check(case, other)[0][3]


def test_another_grid_names_both_files(tmp_path):
    moved = short_axis()
    moved[0, 3] += 1
    case = write_heart(tmp_path, label_affine=moved)
    found = check(case)
    only(found, "error", "ED", "as many voxels, but up to 1 mm away from the image's")
    assert str(case.images["ED"]) in found[0][3]
    assert str(case.labels["ED"]) in found[0][3]


def test_an_unreadable_label_image(case):
    case.labels["ED"].write_bytes(case.labels["ED"].read_bytes()[:100])
    only(check(case), "error", "ED", "sub-01_ED_dseg.nii.gz: unreadable or cut short")


def test_an_image_without_labels_is_a_warning_and_a_site_without_an_error(tmp_path, case):
    bare = replace(write_heart(tmp_path, "02"), labels={})
    only(check(case, bare), "warning", "ED", "has no label image: it is neither trained on nor scored")
    assert [found for found in check(bare) if found[0] == "error"] == [
        ("error", "", "", "no image has a label image; say where they are in sites.north.data.label_images")
    ]


def test_values_that_are_not_named_become_background(case):
    only(check(case, labels={"LV": 1}), "warning", "ED", "`labels` does not name the values 2, 3")
    assert check(case, labels={"heart": (1, 2), "RV": 3}) == []


def test_a_class_that_nobody_has(case):
    only(check(case, labels={**LABELS, "scar": (7, 9)}), "warning", "", "has the class scar (value 7 or 9)")
    shared = write_heart(case.root / "more", "02", ("ED", "ES"))
    shared = replace(shared, labels=dict.fromkeys(shared.labels, shared.labels["ED"]))
    assert check(shared) == [], "one label image may serve several images of a case"


def test_a_class_that_nobody_has_beside_a_value_without_a_class(case):
    found = check(case, labels={"LV": 1, "MYO": 2, "RV": 9})
    assert [level for level, *_ in found] == ["warning", "error"]
    assert "RV (value 9), but there are values that `labels` does not name: 3" in found[1][3]


def test_the_same_labels_of_two_subjects(tmp_path, case):
    other = write_heart(tmp_path, "02")
    other.labels["ED"].write_bytes(case.labels["ED"].read_bytes())
    only(check(case, other), "error", "labels of ED", "the same values as labels of ED of sub-01")


def test_findings_of_images_stay(case):
    image = read_image(case.images["ED"])
    write_image(image.with_array(image.array - 500), case.images["ED"])
    only(check(case), "warning", "ED", "negative values")


# --- several sites ------------------------------------------------------------------------------------


def a_run() -> Run:
    site = {"data": {"format": "bids", "path": "nowhere"}, "labels": LABELS}
    return Run(
        name="r",
        contrasts=["ED"],
        sites={"north": site, "south": site},
        task={"name": "segmentation"},
        split={"test": 0},
    )


def test_the_same_labels_at_two_sites(tmp_path, case):
    south = replace(write_heart(tmp_path, "02", site="south"), root=tmp_path / "other")
    assert check_run(a_run(), {"north": [case], "south": [south]}) == []
    south.labels["ED"].write_bytes(case.labels["ED"].read_bytes())
    (found,) = check_run(a_run(), {"north": [case], "south": [south]})
    assert (found.level, found.site, found.contrast) == ("error", "south", "labels of ED")


def test_a_site_without_labels_stops_a_training_before_any_image_is_opened(tmp_path, case):
    bare = replace(write_heart(tmp_path, "02", site="south"), labels={}, root=tmp_path / "other")
    (found,) = check_found(a_run(), {"north": [case], "south": [bare]})
    assert (found.level, found.site) == ("error", "south")
