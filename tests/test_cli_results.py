"""What can be wrong in predict, report and compare: one clear message, a status other than 0, nothing half-written."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from command import files, refused


@pytest.fixture
def scans(clinic: Path, tmp_path: Path) -> Path:
    """A folder of volumes that cannot be used, and one that can: good_T1w.nii.gz."""
    anat = clinic / "data/abbey/sub-abbey01/anat"
    good = nibabel.load(anat / "sub-abbey01_T1w.nii.gz")
    for name, array in {
        "4d": np.arange(8 * 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 8, 3),
        "constant": np.ones((8, 8, 8), np.float32),
        "nan": np.full((8, 8, 8), np.nan, np.float32),
    }.items():
        nibabel.save(nibabel.Nifti1Image(array, good.affine), tmp_path / f"{name}_T1w.nii.gz")
    for contrast in ("T1w", "PDw"):
        shutil.copy(anat / f"sub-abbey01_{contrast}.nii.gz", tmp_path / f"good_{contrast}.nii.gz")
    (tmp_path / "text_T1w.nii.gz").write_text("hello")
    (tmp_path / "cut_T1w.nii.gz").write_bytes((tmp_path / "good_T1w.nii.gz").read_bytes()[:5000])
    return tmp_path


@pytest.mark.parametrize(
    ("source", "out", "extra", "says"),
    [
        ("good_T1w.nii.gz", "out/x.nii.gz", ["--site", "nowhere"], ["'nowhere'", "abbey, bridge"]),
        ("missing_T1w.nii.gz", "out/x.nii.gz", [], ["missing_T1w.nii.gz: does not exist"]),
        ("4d_T1w.nii.gz", "out/x.nii.gz", [], ["4d_T1w.nii.gz", "one 3-D volume", "(8, 8, 8, 3)"]),
        ("constant_T1w.nii.gz", "out/x.nii.gz", [], ["constant_T1w.nii.gz"]),
        ("nan_T1w.nii.gz", "out/x.nii.gz", [], ["512 NaN"]),
        ("text_T1w.nii.gz", "out/x.nii.gz", [], ["text_T1w.nii.gz: unreadable"]),
        ("cut_T1w.nii.gz", "out/x.nii.gz", [], ["cut_T1w.nii.gz: unreadable or cut short"]),
        ("good_PDw.nii.gz", "out/x.nii.gz", [], ["shows PDw", "T1w->T2w, T2w->PDw", "--task"]),
        ("good_T1w.nii.gz", "out/x.nii.gz", ["--task", "T1w"], ["--task", "SOURCE->TARGET"]),
        ("good_T1w.nii.gz", "out/x.nii.gz", ["--task", "T1w->PDw"], ["not trained for it", "T2w->PDw"]),
        ("good_T1w.nii.gz", "out/x.nii.gz", ["--device", "cuda:99"], ["'cuda:99'", "--device cpu"]),
        ("good_T1w.nii.gz", "x.png", [], ["x.png", ".nii.gz"]),
        ("good_T1w.nii.gz", "good_T1w.nii.gz", [], ["is there already", "choose another OUT"]),
        ("good_T1w.nii.gz", "good_PDw.nii.gz", [], ["is there already", "choose another OUT"]),
        ("good_T1w.nii.gz", "good_PDw.nii.gz/x.nii.gz", [], ["x.nii.gz: cannot be written"]),
        (".", "out", [], ["nothing found", "sub-*/anat"]),
    ],
)
def test_a_prediction_that_cannot_be_made_leaves_nothing(
    trained, scans, monkeypatch, source, out, extra, says
):
    monkeypatch.chdir(scans)
    before = {path: path.stat().st_mtime_ns for path in scans.rglob("*")}
    arguments = [source, out, *(extra if "--site" in extra else ["--site", "abbey", *extra])]
    refused("predict", trained, *arguments, says=says)
    assert {path: path.stat().st_mtime_ns for path in scans.rglob("*")} == before


def test_a_data_set_is_not_written_into(clinic, trained):
    raw = clinic / "data/abbey"
    before = files(raw)
    refused("predict", trained, "--site", "abbey", raw, raw, says=["was not made by predict"])
    assert files(raw) == before


def test_a_report_on_what_is_no_run_is_refused(clinic, trained, tmp_path):
    refused("report", clinic / "data", says=["is not a run", "config.yaml"])
    refused("report", tmp_path / "nowhere", says=["no such folder"])
    refused("report", trained, "--out", tmp_path / "no/x.html", says=["no/x.html: cannot be written"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("methods: {x: {algorithm: {name: fedavgg}}}", ["(methods.x)", "did you mean 'fedavg'"]),
        ("methods: {x: {training: {ruonds: 2}}}", ["(methods.x)", "training.ruonds"]),
        ("methods: {../x: {}}", ["'../x'"]),
        ("methods: {}", ["methods", "at least 1"]),
        ("methods: {x: }", ["methods.x", "mapping"]),
        ("seeds: [1, 1]\nmethods: {x: {}}", ["seeds lists one twice"]),
        ("seeds: [-1]\nmethods: {x: {}}", ["seeds.0", "not -1"]),
    ],
)
def test_a_wrong_study_is_refused_before_its_first_run(clinic, tmp_path, text, says):
    (tmp_path / "study.yaml").write_text(f"name: s\nrun: {clinic}/run.yaml\n{text}\n")
    refused("compare", tmp_path / "study.yaml", "--out", tmp_path / "out", says=says, status=2)
    assert files(tmp_path) == ["study.yaml"]
