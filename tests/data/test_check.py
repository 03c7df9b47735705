"""Each kind of bad input is one finding that names the place; good input has none."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from polysite.config.prepare import Prepare
from polysite.config.run import Run
from polysite.config.site import Site
from polysite.data.case import Case
from polysite.data.check import check_run, check_site
from polysite.image import read_image, write_image

TASKS = ("T1w->T2w",)


def check(
    *cases: Case, tasks: tuple[str, ...] = TASKS, **settings: object
) -> list[tuple[str, str, str, str]]:
    site = Site(data={"format": "bids", "path": "nowhere"}, tasks=tasks)
    found = check_site("north", cases, site, Prepare(**settings))
    assert all(finding.site == "north" for finding in found)
    return [(one.level, one.case, one.contrast, one.message) for one in found]


def rewrite(case: Case, contrast: str, change) -> None:
    image = read_image(case.images[contrast])
    write_image(image.with_array(change(image.array.copy())), case.images[contrast])


def only(found: list[tuple[str, str, str, str]], level: str, contrast: str, words: str) -> None:
    assert len(found) == 1, found
    assert found[0][0] == level
    assert found[0][2] == contrast
    assert words in found[0][3]


def test_good_cases_have_no_finding(make_case):
    assert check(make_case("01"), make_case("02")) == []


def with_nan(array):
    array[3, 3, 3] = np.nan
    return array


def with_infinity(array):
    array[3, 3, 3:5] = np.inf
    return array


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (with_nan, "error", "has 1 NaN or infinite"),
        (with_infinity, "error", "has 2 NaN or infinite"),
        (lambda array: np.full_like(array, 7), "error", "is constant: every value is 7"),
        (lambda array: array - 5, "warning", "negative values down to -5"),
        (lambda array: np.stack([array, array], axis=3), "error", "4-D (33 × 38 × 31 × 2) where one 3-D"),
        (lambda array: array[:, :, 0], "error", "2-D (33 × 38) where one 3-D"),
    ],
)
def test_values_and_dimensions(make_case, change, level, words):
    case = make_case()
    rewrite(case, "T2w", change)
    only(check(case), level, "T2w", words)


def test_a_single_frame_in_four_dimensions_is_fine(make_case):
    case = make_case()
    rewrite(case, "T2w", lambda array: array[..., None])
    assert check(case) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "not gzip", "gone", "empty"])
def test_unreadable_files(make_case, damage):
    case = make_case()
    path = case.images["T2w"]
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "cut": content[:middle],
                "changed": content[:middle] + bytes(64) + content[middle + 64 :],
                "not gzip": gzip.decompress(content),
                "empty": b"",
            }[damage]
        )
    only(check(case), "error", "T2w", str(path))


def test_a_missing_contrast(make_case):
    only(check(make_case("01"), make_case("02", ("T1w",))), "error", "T2w", "is missing; T1w->T2w needs it")


def test_a_site_with_one_contrast_only(make_case):
    found = check(make_case("01", ("T1w",)))
    assert ("error", "", "T1w", "has T1w only; a task needs two contrasts of the same subject") in found


def test_a_task_that_no_subject_has(make_case):
    found = check(make_case("01"), tasks=(*TASKS, "T1w->FLAIR"))
    assert any("task T1w->FLAIR: no subject has FLAIR" in message for *_, message in found)
    found = check(make_case("01", ("T1w",)), make_case("02", ("T2w",)))
    assert any("task T1w->T2w: no subject has both" in message for *_, message in found)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"shape": (33, 38, 29)}, "T2w is 33×38×29 but T1w is 33×38×31"),
        ({"spacing": (3.0, 3.0, 3.2)}, "the affine of T2w differs from that of T1w by up to 3 mm"),
    ],
)
def test_other_grids_are_an_error_only_without_registration(make_case, over, words):
    case = make_case(T2w=over)
    only(check(case, registration="never"), "error", "T2w", words)
    only(check(case), "note", "T2w", f"{words}; prepare will register it")


def test_another_order_of_storage_is_no_difference(make_case):
    assert check(make_case(T2w={"codes": "LPS"}), registration="never") == []


def test_a_subject_that_is_there_twice(make_case):
    case = make_case()
    other = replace(make_case("02"), subject="01")
    only([one for one in check(case, other) if one[0] == "error"], "error", "", "is there 2 times")


def test_the_same_image_in_two_subjects_or_two_contrasts(make_case):
    first, second = make_case("01"), make_case("02")
    second.images["T2w"].write_bytes(first.images["T2w"].read_bytes())
    only(check(first, second), "error", "T2w", "has the same values as T2w of sub-01")
    first.images["T2w"].write_bytes(first.images["T1w"].read_bytes())
    only(check(first), "error", "T2w", "has the same values as T1w of sub-01")


def test_one_file_for_two_contrasts_of_a_case(make_case):
    case = make_case()
    twice = replace(case, images=dict.fromkeys(("T1w", "T2w"), case.images["T1w"]))
    only(check(twice), "error", "T2w", "has the same values as T1w of sub-01")


def test_what_a_reader_passed_over_is_noted(make_case):
    only(check(replace(make_case(), notes=("b.nii was passed over for a.nii",))), "note", "", "b.nii")


# --- several sites ------------------------------------------------------------------------------------


def a_run(**split: object) -> Run:
    site = {"data": {"format": "bids", "path": "nowhere"}, "tasks": ["T1w->T2w"]}
    return Run(
        name="r", contrasts=["T1w", "T2w"], sites={"north": site, "south": site}, split={"test": 0.0, **split}
    )


def test_one_person_at_two_sites(make_case):
    case = make_case("01")
    found = check_run(a_run(), {"north": [case], "south": [replace(case, site="south")]})
    assert [(one.level, one.site, one.case) for one in found] == [("error", "south", "sub-01")]
    assert "is at 'north' too" in found[0].message


def test_the_same_label_in_two_data_sets_is_two_persons(make_case, tmp_path):
    north, south = make_case("01"), make_case("02", site="south")
    south = replace(south, subject="01", root=tmp_path / "other")
    assert check_run(a_run(), {"north": [north], "south": [south]}) == []


def test_the_same_image_at_two_sites(make_case, tmp_path):
    north = make_case("01")
    copy = replace(north, site="south", subject="09", root=tmp_path / "other")
    found = check_run(a_run(), {"north": [north], "south": [copy]})
    assert {(one.site, one.contrast) for one in found} == {("south", "T1w"), ("south", "T2w")}


def test_a_subject_in_two_splits(make_case):
    run = a_run(subjects={"north": {"train": ["01", "02"], "test": ["02"]}})
    found = check_run(
        run, {"north": [make_case("01"), make_case("02")], "south": [make_case("03", site="south")]}
    )
    assert [one.level for one in found] == ["error"]
    assert "'02' is in 'train' and 'test'" in found[0].message
