"""The page says what the files say, and nothing in a file can make it do anything."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml

from polysite.errors import DataError
from polysite.evaluate.table import read_scores, write_scores
from polysite.report.page import build_report
from report.study import write_run

SMALL = {"sites": {"guys": ("T1w->T2w",)}, "n_rounds": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Run folders of local, fedavg and pflsynth with seeds 1 and 2; not to be changed."""
    root = tmp_path_factory.mktemp("study")
    return [
        write_run(root / f"{algorithm}-{seed}", algorithm=algorithm, seed=seed)
        for algorithm in ("local", "fedavg", "pflsynth")
        for seed in (1, 2)
    ]


@pytest.fixture
def run_folder(tmp_path):
    """Write a run folder that the test may change: ``run_folder("name", algorithm="local")``."""
    return lambda name, **settings: write_run(tmp_path / name, **settings)


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    """The page of the whole study."""
    return build_report(study, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


class _Elements(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def _text(page):
    return " ".join(" ".join(_Elements(page).text).split())


def test_the_answer_comes_first_and_is_that_of_the_scores(page):
    text = _text(page)
    assert "Yes, on average: pflsynth gains 1.1" in text
    assert "24 test subjects at 3 sites" in text
    assert text.index("Yes, on average") < text.index("The answer per site") < text.index("Scores by site")


def test_every_section_site_task_and_method_is_there(page):
    text = _text(page)
    for heading in (
        "Differences, subject by subject",
        "Training",
        "Example slices",
        "What travelled, and what stayed",
        "Configuration",
        "Limits",
    ):
        assert heading in text
    for word in (
        "guys",
        "midas",
        "oasis",
        "T2w → FLAIR",
        "local",
        "fedavg",
        "pflsynth",
        "Validation PSNR [dB]",
    ):
        assert word in text


def test_the_page_needs_nothing_from_outside(page):
    for tag, attributes in _Elements(page).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), f"<{tag} {name}={value[:60]!r}>"
        assert not any(name.startswith("on") for name in attributes)
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*[\"']?([^)\"']*)", page))
    assert "@import" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_nothing_from_a_file_is_taken_for_html_or_mathematics(run_folder, tmp_path):
    site = "<script>alert(1)<b> & $x_1$"
    folders = [
        run_folder(algorithm, algorithm=algorithm, sites={site: ("T1w->T2w",)}, n_rounds=2)
        for algorithm in ("local", "pflsynth")
    ]
    config = yaml.safe_load((folders[1] / "config.yaml").read_text())
    config["label"] = label = "<img src=x onerror=alert(2)>"
    (folders[1] / "config.yaml").write_text(yaml.safe_dump(config))
    write_scores(
        folders[1] / "scores.csv",
        [type(row)(**(vars(row) | {"method": label})) for row in read_scores(folders[1] / "scores.csv")],
    )
    (folders[1] / "environment.json").write_text('{"cpu": "</pre><script>alert(3)</script>"}')
    (folders[0] / "environment.json").write_text('{"cpu": "</pre><script>alert(3)</script>"}')
    page = build_report(folders, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    elements = _Elements(page)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert site in _text(page)
    assert label in _text(page)


def test_a_run_without_scores_is_told_and_not_an_error(run_folder, tmp_path):
    folder = run_folder("fresh", **SMALL)
    (folder / "scores.csv").unlink()
    text = _text(build_report([folder], tmp_path / "report.html").read_text())
    assert "No run has scores yet" in text
    assert "fresh : it has no scores yet; run `polysite evaluate` on it" in text
    assert "not for diagnosis" in text


def test_a_run_that_has_hardly_begun_is_told_and_not_an_error(tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: begun\nalgorithm: {name: fedavg}\n")
    text = _text(build_report([folder], tmp_path / "report.html").read_text())
    assert "training has not finished: 0 of unknown rounds are done" in text
    for sentence in ("it has no splits.json", "No run has recorded a round", "No run has predicted yet"):
        assert sentence in text


def test_an_unfinished_run_beside_a_finished_one_says_how_far_it_is(run_folder, tmp_path):
    done = run_folder("done", algorithm="local", **SMALL)
    cut = run_folder("cut", algorithm="pflsynth", **SMALL)
    lines = (cut / "events.jsonl").read_text().splitlines()
    (cut / "events.jsonl").write_text("\n".join(lines[:2]) + '\n{"event": "si')
    text = _text(build_report([done, cut], tmp_path / "report.html").read_text())
    assert "cut : training has not finished: 1 of 2 rounds are done" in text
    assert "done : training" not in text


def test_only_one_method_leaves_the_question_open(run_folder, tmp_path):
    text = _text(build_report([run_folder("only", **SMALL)], tmp_path / "report.html").read_text())
    assert "These runs do not answer the question." in text
    assert "no run of `local`" in text


def test_methods_without_local_are_compared_with_the_main_one(run_folder, tmp_path):
    folders = [run_folder(name, algorithm=name, **SMALL) for name in ("fedavg", "pflsynth")]
    text = _text(build_report(folders, tmp_path / "report.html").read_text())
    assert "no run of `local`" in text
    assert "PSNR of every method minus that of pflsynth" in text


def test_few_subjects_have_no_verdict(run_folder, tmp_path):
    folders = [run_folder(name, algorithm=name, n_test=2, **SMALL) for name in ("local", "pflsynth")]
    text = _text(build_report(folders, tmp_path / "report.html").read_text())
    assert "Too few subjects to tell" in text
    assert "too few for a test" in text.replace("\u00a0", " ")


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_a_folder_that_is_no_run_is_named(tmp_path, kind):
    folder = tmp_path / kind
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(DataError, match=rf"{kind} is not a run: .*polysite train --out"):
        build_report([folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_folder_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no run is given"):
        build_report([], tmp_path / "report.html")


def test_a_configuration_that_is_no_yaml_is_named(run_folder, tmp_path):
    folder = run_folder("broken", **SMALL)
    (folder / "config.yaml").write_text("a: [1")
    with pytest.raises(DataError, match=r"config.yaml: cannot be read as YAML"):
        build_report([folder], tmp_path / "report.html")


def test_two_runs_under_one_name_are_an_error_that_names_both(run_folder, tmp_path):
    folders = [run_folder("first", **SMALL), run_folder("second", **SMALL)]
    with pytest.raises(DataError, match=r"first and .*second both score sub-00 at guys as method 'pflsynth'"):
        build_report(folders, tmp_path / "report.html")


def test_the_same_files_give_the_same_bytes_and_a_folder_given_twice_is_one_run(run_folder, tmp_path):
    folder = run_folder("run", **SMALL)
    once = build_report([folder], tmp_path / "once.html").read_bytes()
    assert build_report([folder, folder], tmp_path / "twice.html").read_bytes() == once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once.html", "run", "twice.html"]


def test_scores_taken_in_different_masks_are_not_compared_in_silence(run_folder, tmp_path):
    folders = [run_folder(name, algorithm=name, **SMALL) for name in ("local", "pflsynth")]
    path = folders[0] / "scores.csv"
    path.write_text(path.read_text().replace(",foreground", ",none"))
    text = _text(build_report(folders, tmp_path / "report.html").read_text())
    assert "These scores cannot be compared" in text


def test_damaged_side_files_are_told(run_folder, tmp_path):
    folder = run_folder("run", **SMALL)
    (folder / "share_plan.json").write_text('{"networks": ')
    (folder / "splits.json").write_text("[]")
    (folder / "predictions" / "guys" / "examples" / "T1w-T2w.npz").write_bytes(b"PK\x03\x04 cut")
    text = _text(build_report([folder], tmp_path / "report.html").read_text())
    for sentence in (
        "share_plan.json cannot be read",
        "splits.json is not a mapping",
        "an example is left out",
    ):
        assert sentence in text


def test_phantoms_and_single_seeds_stand_among_the_limits(run_folder, tmp_path):
    text = _text(build_report([run_folder("run", **SMALL)], tmp_path / "report.html").read_text())
    limits = text[text.rindex("Limits") :]
    assert "The scans of guys are procedural phantoms" in limits
    assert "pflsynth: trained with a single seed" in limits


def test_a_page_that_cannot_be_written_is_a_data_error(run_folder, tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        build_report([run_folder("run", **SMALL)], tmp_path / "no" / "report.html")


def test_the_report_does_without_torch():
    code = "import sys, polysite.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
