"""From phantom hospitals to a report by the command line, each result looked at for what it is."""

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from command import files, polysite, well
from polysite.data.bids import entities_of


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scan(clinic: Path, contrast: str = "T1w", subject: str = "abbey01") -> Path:
    return clinic / "data" / subject[:-2] / f"sub-{subject}" / "anat" / f"sub-{subject}_{contrast}.nii.gz"


def same_geometry(path: Path, other: Path) -> None:
    image, source = nibabel.load(path), nibabel.load(other)
    assert image.shape == source.shape
    assert np.array_equal(image.affine, source.affine)
    for field in ("sform_code", "qform_code", "xyzt_units"):
        assert image.header[field] == source.header[field]
    assert np.array_equal(image.header.get_qform(), source.header.get_qform())


# --- before training ----------------------------------------------------------------------------------


def test_check_finds_the_phantoms_without_fault(clinic):
    assert "6 cases at 2 sites: 0 errors, 0 warnings" in well("check", clinic / "run.yaml")


def test_the_plan_says_in_json_what_would_leave(clinic):
    plan = json.loads(well("plan", clinic / "run.yaml", "--json"))
    assert set(plan["networks"]) == {"generator", "discriminators.T1w-T2w", "discriminators.T2w-PDw"}
    assert not set(plan["shared"]["names"]) & set(plan["private"]["names"])
    assert all(name.startswith("generator.") for name in plan["shared"]["names"])
    assert plan["shared"]["bytes_per_round"] == 4 * plan["shared"]["values"] or any(
        name.endswith("num_batches_tracked") for name in plan["shared"]["names"]
    )


def test_the_paper_s_setup_is_planned_without_data():
    plan = json.loads(well("plan", "recipes/pflsynth-variable.yaml", "--json"))
    networks = plan["networks"]
    assert networks["generator"]["parameters"] == 15_986_817
    judges = [name for name in networks if name.startswith("discriminators.")]
    assert judges
    assert {networks[name]["parameters"] for name in judges} == {2_764_609}
    assert plan["shared"]["values"] == 6_419_275


def test_prepare_counts_the_splits_and_is_silent_the_second_time(clinic, tmp_path):
    command = ("prepare", clinic / "run.yaml", "--set", f"cache={tmp_path}")
    first, second = polysite(*command), polysite(*command)
    assert (
        first.out
        == second.out
        == ("abbey: 2 train, 0 validation, 1 test\nbridge: 2 train, 0 validation, 1 test\n")
    )
    assert first.err.splitlines() == ["abbey: preparing", "bridge: preparing"]
    assert second.err == ""
    assert len(list((tmp_path / "prepared").glob("sub-*/case.json"))) == 6


# --- the run folder -----------------------------------------------------------------------------------


def test_a_run_folder_holds_what_the_reference_says(trained):
    for name in (
        *(
            "config.yaml",
            "share_plan.txt",
            "share_plan.json",
            "splits.json",
            "environment.json",
            "events.jsonl",
        ),
        *("models.json", "scores.csv", "server/model.safetensors", "server/store/round-000002/state.json"),
        *("sites/abbey/model.safetensors", "sites/bridge/store/round-000002/state.safetensors"),
    ):
        assert (trained / name).is_file(), name
    assert json.loads((trained / "models.json").read_text())["abbey"] == sha256(
        trained / "sites/abbey/model.safetensors"
    )
    assert not [name for name in files(trained) if ".tmp" in name]
    events = [json.loads(line) for line in (trained / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] != "site"] == [
        "start",
        "round",
        "round",
        "end",
    ]
    assert [event["site"] for event in events if event["event"] == "site"] == ["abbey", "bridge"] * 2


def test_resuming_a_finished_run_changes_no_model(trained, tmp_path):
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    before = {path: sha256(path) for path in copy.rglob("*.safetensors")}
    boards = files(copy / "tb")
    well("train", "--resume", copy)
    assert {path: sha256(path) for path in copy.rglob("*.safetensors")} == before
    assert files(copy / "tb") == boards


def test_paths_hold_when_a_run_is_continued_from_elsewhere(clinic, tmp_path, monkeypatch):
    (tmp_path / "über wald").mkdir()
    monkeypatch.chdir(tmp_path / "über wald")
    Path("data").symlink_to(clinic / "data")
    text = (clinic / "run.yaml").read_text().replace(f"{clinic}/", "")
    monkeypatch.setenv("POLYSITE_TEST_DATA", str(tmp_path / "über wald" / "data"))
    text = text.replace("data/bridge", '"${POLYSITE_TEST_DATA}/bridge"')
    Path("my run.yaml").write_text(text.replace("rounds: 2", "rounds: 1"), encoding="utf-8")
    well("train", "my run.yaml", "--out", "läufe/a b")
    well("train", "--resume", "läufe/a b", "my run.yaml")
    monkeypatch.chdir("/")
    well("train", "--resume", tmp_path / "über wald" / "läufe/a b")
    config = (tmp_path / "über wald" / "läufe/a b/config.yaml").read_text()
    assert "path: ${POLYSITE_TEST_DATA}/bridge" in config
    assert not (Path("/") / "cache").exists()


# --- scores and predictions ---------------------------------------------------------------------------


def test_scores_have_a_row_a_subject_and_task(trained):
    with (trained / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    tests = {site: parts["test"] for site, parts in json.loads((trained / "splits.json").read_text()).items()}
    assert [(row["site"], row["subject"], row["task"]) for row in rows] == [
        ("abbey", tests["abbey"][0], "T1w->T2w"),
        ("abbey", tests["abbey"][0], "T2w->PDw"),
        ("bridge", tests["bridge"][0], "T1w->T2w"),
    ]
    for row in rows:
        assert 0 < float(row["psnr_db"]) < 40
        assert int(row["n_voxels"]) > 100
        assert row["method"] == "pflsynth-repaired"


def test_evaluation_leaves_a_bids_derivative(clinic, trained):
    for site in ("abbey", "bridge"):
        is_derivative(trained / "predictions" / site, clinic / "data" / site)


def is_derivative(folder: Path, raw: Path) -> None:
    about = json.loads((folder / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "Polysite"
    assert about["DatasetLinks"] == {"raw": raw.as_uri()}
    volumes = sorted(folder.glob("sub-*/anat/*.nii.gz"))
    assert volumes
    for volume in volumes:
        entities, suffix = entities_of(volume.name)
        assert list(entities) == ["sub", "rec", "desc"]
        assert suffix in ("T2w", "PDw")
        sidecar = json.loads(volume.with_name(volume.name.replace(".nii.gz", ".json")).read_text())
        (source,) = sidecar["Sources"]
        assert sidecar["Units"] == "arbitrary"
        assert source.startswith("bids:raw:sub-")
        same_geometry(volume, raw / source.removeprefix("bids:raw:"))
        values = nibabel.load(volume).get_fdata()
        assert 0 <= values.min() < values.max() <= 1


def test_a_bids_folder_in_a_derivative_out(clinic, trained, tmp_path):
    out = well("predict", trained, "--site", "abbey", clinic / "data/abbey", tmp_path / "synth")
    assert len(out.splitlines()) == 6
    is_derivative(tmp_path / "synth", clinic / "data/abbey")
    well("predict", trained, "--site", "abbey", clinic / "data/abbey", tmp_path / "synth")  # again: replaced


def test_a_volume_in_a_volume_out_twice_the_same(clinic, trained, tmp_path):
    for name in ("a.nii.gz", "new folder/my.scan.b.nii.gz"):
        well("predict", trained, "--site", "abbey", scan(clinic), tmp_path / name)
    first, second = tmp_path / "a.nii.gz", tmp_path / "new folder/my.scan.b.nii.gz"
    assert sha256(first) == sha256(second)
    same_geometry(first, scan(clinic))
    sidecar = json.loads((tmp_path / "new folder/my.scan.b.json").read_text())
    assert sidecar["Task"] == "T1w->T2w"
    assert sidecar["Sources"] == [scan(clinic).as_uri()]
    well("predict", trained, "--site", "abbey", scan(clinic), first)  # its own earlier output is replaced


def test_prediction_does_not_depend_on_how_a_volume_is_stored(clinic, trained, tmp_path):
    source = nibabel.load(scan(clinic))
    turned = source.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nibabel.save(turned, tmp_path / "turned_T1w.nii.gz")
    well("predict", trained, "--site", "abbey", scan(clinic), tmp_path / "a.nii.gz")
    well("predict", trained, "--site", "abbey", tmp_path / "turned_T1w.nii.gz", tmp_path / "b.nii.gz")
    same_geometry(tmp_path / "b.nii.gz", tmp_path / "turned_T1w.nii.gz")
    back = nibabel.as_closest_canonical(nibabel.load(tmp_path / "b.nii.gz")).get_fdata()
    assert np.array_equal(back, nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz")).get_fdata())


def test_oblique_and_tiny_volumes_keep_their_grid(trained, tmp_path):
    angle = 0.3
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = affine @ np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 10, -20, 5
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(9, 31, 5), (1, 7, 3), (4, 4, 1), (40, 3, 3)]):
        source = tmp_path / f"{number}_T1w.nii.gz"
        image = Nifti1Image(rng.uniform(10, 100, shape).astype(np.float32), affine)
        image.set_qform(affine, code=2)
        image.set_sform(affine, code=4)
        nibabel.save(image, source)
        well("predict", trained, "--site", "bridge", source, tmp_path / "out.nii.gz")
        same_geometry(tmp_path / "out.nii.gz", source)


@pytest.mark.parametrize(
    "settings",
    [
        "{spacing_mm: [8, 7, 5]}",
        "{reference: T2w}",
        "{mask: none}",
        "{mask: nonzero, percentiles: [1, 98]}",
    ],
)
def test_every_way_to_prepare_gives_the_input_s_grid_back(clinic, tmp_path, settings):
    run = ("train", clinic / "run.yaml", "--out", tmp_path / "run", "--set", f"prepare={settings}")
    well(*run, "--set", f"cache={tmp_path / 'cache'}", "--set", "training.rounds=1")
    well(
        "predict",
        tmp_path / "run",
        "--site",
        "bridge",
        scan(clinic, "T1w", "bridge02"),
        tmp_path / "x.nii.gz",
    )
    same_geometry(tmp_path / "x.nii.gz", scan(clinic, "T1w", "bridge02"))
    slices = nibabel.load(tmp_path / "x.nii.gz").get_fdata().std(axis=(0, 1))
    head = nibabel.load(scan(clinic, "T1w", "bridge02")).get_fdata().max(axis=(0, 1)) > 100
    assert (slices[head] > 0).mean() > 0.9  # every slice that shows the head was synthesised


# --- report and study ---------------------------------------------------------------------------------


def test_the_report_is_one_page_that_asks_for_nothing_else(trained, tmp_path):
    well("report", trained, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "abbey" in page
    assert "pflsynth" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert not re.search(r"url\(\s*[\"']?(https?:)?//", page)


def test_a_study_compares_goes_on_and_refuses_other_settings(clinic, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: s\nrun: {clinic}/run.yaml\nmethods:\n"
        "  alone: {algorithm: {name: local}, training: {rounds: 1}}\n"
        "  average: {algorithm: {name: fedavg}, training: {rounds: 1}}\n"
    )
    first = well("compare", study, "--out", tmp_path / "runs")
    assert (tmp_path / "runs/report.html").is_file()
    assert "alone" in first
    assert "average" in first
    models = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert well("compare", study, "--out", tmp_path / "runs") == first
    assert {path: path.stat().st_mtime_ns for path in models} == models
    study.write_text(study.read_text().replace("{name: fedavg}, training: {rounds: 1}", "{name: central}"))
    done = polysite("compare", study, "--out", tmp_path / "runs")
    assert done.status == 2
    assert "training.rounds: 1 -> 2" in done.err
