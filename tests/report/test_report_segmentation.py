"""The page of a segmentation: Dice decides, classes stand one by one, outlines lie where the labels lie."""

import re

import numpy as np
import pytest

from polysite.errors import DataError
from polysite.evaluate.table import read_scores
from polysite.report.answer import answer
from polysite.report.outlines import outline, outline_figures, read_outlines
from polysite.report.page import build_report
from report.study import heart, write_run, write_segmentation_run
from report.test_report_page import _Elements, _text


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Run folders of local, fedavg and fedcrld; not to be changed."""
    root = tmp_path_factory.mktemp("study")
    return [
        write_segmentation_run(root / algorithm, algorithm=algorithm)
        for algorithm in ("local", "fedavg", "fedcrld")
    ]


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return build_report(study, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def test_the_answer_is_a_mean_over_classes_and_site_by_site(study):
    scores = [row for folder in study for row in read_scores(folder / "scores.csv")]
    found = answer(scores, {name: name for name in ("local", "fedavg", "fedcrld")})
    assert re.match(r"Yes, on average: fedcrld gains 0\.0\d\d Dice over training alone\.", found.headline)
    assert "16 test subjects at 2 sites" in found.detail
    assert "Site by site (2 comparisons): helps in 2" in found.detail
    assert [(row.site, row.task, row.metric) for row in found.by_site] == [
        ("ivy", None, "dice"),
        ("nave", None, "dice"),
    ]
    assert [row.task for row in found.by_part if row.site == "nave"] == ["LV", "MYO", "infarct", "no-reflow"]


def test_the_page_speaks_of_segmentation(page):
    text = _text(page)
    for words in (
        "fedcrld gains 0.0",
        "Difference in Dice",
        "fedcrld against local, class by class",
        "Scores by site, class and method",
        "HD95 [mm]",
        "EF error [points]",
        "all classes",
        "no-reflow",
        "n = 5",
        "Outlines are predictions of a network",
        "Dice forgives errors in large structures",
        "ivy, ES",
        "apex slice 2",
    ):
        assert words in text, words
    for words in ("PSNR minus", "data range", "Synthetic images", "tenths of a dB"):
        assert words not in text, words


def test_the_page_needs_nothing_from_outside(page):
    for tag, attributes in _Elements(page).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,"))


def test_a_name_from_a_file_is_not_taken_for_html(tmp_path):
    name = "<script>alert(1)</script>"
    folder = write_segmentation_run(tmp_path / "run", labels={"ivy": {"LV": 1, name: 2}}, n_rounds=1)
    text = build_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert name in _text(text)


def test_runs_of_two_kinds_of_task_do_not_share_a_page(study, tmp_path):
    with pytest.raises(DataError, match="cannot stand in one table; take the runs of one task"):
        build_report([study[0], write_run(tmp_path / "synthesis", n_rounds=1)], tmp_path / "report.html")


def test_a_run_without_scores_speaks_of_its_own_task(tmp_path):
    folder = write_segmentation_run(tmp_path / "run", n_rounds=1)
    (folder / "scores.csv").unlink()
    text = _text(build_report([folder], tmp_path / "report.html").read_text())
    assert "No run has scores yet" in text
    assert "Outlines are predictions of a network" in text


# --- outlines -----------------------------------------------------------------------------------------


def _points(path):
    return np.array(
        [[float(value) for value in point.split()] for point in re.findall(r"[\d.]+ [\d.]+", path)]
    )


def test_an_outline_runs_around_its_voxels_in_the_turned_picture():
    region = np.zeros((10, 6), bool)
    region[7:9, 1:3] = True  # right and low in RAS+
    points = _points(outline(region))
    # the picture has x to the left and y up: columns 10 - 9 to 10 - 7, rows 6 - 3 to 6 - 1
    assert (points.min(axis=0) == [1.0, 3.0]).all()
    assert (points.max(axis=0) == [3.0, 5.0]).all()


def test_two_parts_are_two_closed_outlines_and_a_hole_is_one_too():
    region = np.zeros((12, 12), bool)
    region[1:3, 1:3] = region[5:11, 5:11] = True
    region[7:9, 7:9] = False
    assert outline(region).count("M") == outline(region).count("Z") == 3
    assert outline(np.zeros((3, 3), bool)) == ""
    assert outline(np.ones((2, 2), bool)).count("Z") == 1  # closed where it touches the edge


def test_methods_stand_side_by_side_with_the_same_slices_only(study):
    shown = {
        name: [read_outlines(folder / "predictions" / "nave" / "examples" / "LGE.npz")]
        for name, folder in zip(("local", "fedavg", "fedcrld"), study, strict=True)
    }
    other = shown["fedavg"][0]
    shown["fedavg"] = [type(other)(**(vars(other) | {"subject": "sub-09"}))]
    (figure,) = outline_figures(shown, list(shown), ["ivy", "nave"])
    assert figure.left_out == ["fedavg"]
    assert [row.place for row in figure.rows] == ["base", "middle", "apex"]
    for row in figure.rows:
        assert [column.method for column in row.columns] == ["local", "fedcrld"]
        assert len(row.truth) == 4
        for path in row.truth:
            points = _points(path.d)
            assert (points >= 0).all()
            assert (points <= [row.width, row.height]).all()


def test_a_class_has_one_style_at_all_sites(study):
    files = sorted((study[0] / "predictions").glob("*/examples/*.npz"))
    figures = outline_figures({"local": [read_outlines(file) for file in files]}, ["local"], ["ivy", "nave"])
    assert [(figure.site, figure.image) for figure in figures] == [
        ("ivy", "ED"),
        ("ivy", "ES"),
        ("nave", "LGE"),
    ]
    (legend,) = {tuple(figure.legend) for figure in figures}
    assert [entry.name for entry in legend] == ["LV", "MYO", "RV", "infarct", "no-reflow"]
    assert len({entry.style for entry in legend}) == 5


def test_what_is_far_off_is_not_cut_away(study):
    file = study[0] / "predictions" / "ivy" / "examples" / "ED.npz"
    kept = read_outlines(file)
    stray = kept.predicted.copy()
    stray[0, 0, -1] = 1
    (near,) = outline_figures({"a": [kept]}, ["a"], [])
    (far,) = outline_figures({"a": [type(kept)(**(vars(kept) | {"predicted": stray}))]}, ["a"], [])
    assert far.rows[0].width > near.rows[0].width
    assert far.rows[0].height > near.rows[0].height


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": None},
        {"predicted": heart()[:5, :5, :3]},
        {"image": np.full((3, 4, 5), np.nan, np.float32)},
        {"names": np.array(["background"])},
        {"spacing_mm": np.array([1.0, 0.0])},
        {"window": np.array([0.0, np.inf])},
        {"subject": np.array([{"pickled": "object"}], dtype=object)},
    ],
)
def test_a_damaged_example_is_a_data_error_that_names_it(study, tmp_path, changes):
    with np.load(study[0] / "predictions" / "ivy" / "examples" / "ED.npz") as stored:
        content = dict(stored) | changes
    path = tmp_path / "ivy" / "examples" / "ED.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(DataError, match=r"ED.npz"):
        read_outlines(path)
