"""Reasons to look at a case, from records alone."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from polysite.config.prepare import Prepare
from polysite.data.cache import PreparedCase
from polysite.data.prepare import prepare_case
from polysite.data.quality import FIGURES, LIMIT_Z, doubts, figures_of, robust_z

STEP: dict[str, Any] = {
    "registration": {
        "kind": "rigid",
        "information_before": 0.4,
        "information_after": 0.6,
        "shift_mm": 2.0,
        "rotation_degrees": 1.0,
        "stretch": 0.0,
        "warning": None,
    },
    "mask": {"kind": "head", "share": 0.4, "ml": 3000.0},
    "percentiles": {"low": 0.0, "high": 900.0, "clipped": 0.005},
    "negative": {"share": 0.0, "clipped": False},
    "reach": 1.0,
    "bias": None,
    "notes": [],
}


def case(site: str = "north", number: int = 1, **changes: Any) -> PreparedCase:
    """A case whose T2w has other figures than usual; ``registration__shift_mm=3`` changes what lies deeper."""
    step = deepcopy(STEP)
    for name, value in changes.items():
        *parts, last = name.split("__")
        inner = step
        for part in parts:
            inner = inner[part]
        inner[last] = value
    still = {**deepcopy(STEP), "registration": None}
    record = {
        "site": site,
        "key": f"sub-{number:02d}",
        "reference": "T1w",
        "steps": {"T1w": still, "T2w": step},
    }
    return PreparedCase(Path("x"), record)


def reasons(*cases: PreparedCase) -> list[list[str]]:
    return [[f"{doubt.contrast}: {doubt.reason}" for doubt in found] for found in doubts(cases)]


def test_nothing_is_said_of_usual_cases():
    cases = [case(number=n, registration__shift_mm=1 + 0.1 * n, mask__ml=3000 + 40 * n) for n in range(9)]
    assert reasons(*cases) == [[]] * 9


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"registration__warning": "made it worse"}, "T2w: registration made it worse"),
        ({"registration__information_after": 0.4}, "T2w: mutual information did not grow by registration"),
        (
            {"registration__shift_mm": 25.3},
            "T2w: registration moved it by 25.3 mm and 1.0°; see whether that can be",
        ),
        ({"registration__rotation_degrees": 16.0}, "T2w: registration moved it by 2.0 mm and 16.0°;"),
        ({"registration__stretch": 0.06}, "T2w: registration moved it by 2.0 mm and 1.0°, 6.0 % of stretch;"),
        ({"reach": 0.8}, "T2w: covers 80 % of the mask of T1w"),
        ({"percentiles__clipped": 0.3}, "T2w: 30 % of the mask's voxels are beyond the percentiles"),
        ({"negative": {"share": 0.4, "clipped": False}}, "T2w: 40 % of its values are negative"),
    ],
)
def test_a_limit_is_told_once_and_in_words(changes, says):
    (found,) = reasons(case(**changes))
    assert len(found) == 1
    assert found[0].startswith(says)


def test_ringing_that_was_clipped_is_no_reason():
    assert reasons(case(negative={"share": 0.01, "clipped": True})) == [[]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"registration__information_after": 0.42},
            "mutual information after registration 0.42 is far below",
        ),
        (
            {"registration__shift_mm": 9.0},
            "shift 9.0 mm is far above what is usual at the site (median 2.0 mm of 8",
        ),
        ({"mask__ml": 1200.0}, "volume of the mask 1200 ml is far below"),
        ({"mask__ml": 4800.0}, "volume of the mask 4800 ml is far above"),
        ({"percentiles__high": 5000.0}, "window 5000 is far above"),
    ],
)
def test_one_of_many_that_is_far_from_the_others_is_found(changes, says):
    found = reasons(*(case(number=n) for n in range(7)), case(number=8, **changes))
    assert found[:7] == [[]] * 7
    assert len(found[7]) == 1
    assert f"T2w: {says}" in found[7][0]


def test_sites_are_not_compared_and_few_cases_say_nothing():
    heads = [case("north", n) for n in range(6)]
    brains = [case("south", n, mask__ml=1400.0) for n in range(6)]
    assert reasons(*heads, *brains) == [[]] * 12
    assert reasons(*heads[:4], case("north", 9, mask__ml=1400.0)) == [[]] * 5


def test_good_figures_are_no_outliers():
    better = case(number=9, registration__information_after=0.9, registration__shift_mm=0.0)
    assert reasons(*(case(number=n, registration__shift_mm=6.0) for n in range(7)), better)[-1] == []


def test_robust_z_is_one_for_a_normal_sample_s_deviation_and_has_a_floor():
    values = [-2, -1, 0, 1, 2]
    assert robust_z(values, 0) == pytest.approx([v / 1.4826 for v in values])
    assert robust_z([5, 5, 5, 5.1], 1.0) == pytest.approx([0, 0, 0, 0.1])
    assert abs(robust_z([5, 5, 5, 9], 0)[-1]) > LIMIT_Z


def test_a_prepared_case_has_every_figure(make_case, tmp_path):
    over = {"T2w": {"shape": (40, 46, 31), "spacing": (2.5, 2.5, 3.0)}}
    prepared = prepare_case(make_case(**over), Prepare(), tmp_path)
    assert doubts([prepared]) == [[]]
    assert len(figures_of(prepared.record["steps"]["T2w"])) == len(FIGURES)
    assert None not in figures_of(prepared.record["steps"]["T2w"])
    step = prepared.record["steps"]["T1w"]
    assert step["mask"]["ml"] == pytest.approx(step["mask"]["share"] * 33 * 38 * 31 * 0.027)
