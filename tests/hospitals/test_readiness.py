"""`polysite check --site`: what would stop a hospital, told before it joins; room on disks as it turns out to be."""

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from command import polysite, well
from heart_files import write_heart
from hospitals import across, hospital
from kit_files import kits
from polysite import recipe
from polysite.cases import find_cases, prepare_cases, split_cases
from polysite.config.run import Run
from polysite.data.check import check_run
from polysite.data.finding import Finding, Seen
from polysite.federation.crew import make_algorithm, make_plans, make_task
from polysite.federation.tensor_files import n_bytes
from polysite.hospitals import readiness
from polysite.hospitals.opening import run_folder
from polysite.hospitals.readiness import hindrances, room_for_cases, room_for_states
from polysite.hospitals.site_file import at_hospital
from small_runs import small_raw

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return small_raw(tmp_path_factory.mktemp("readiness"))


@pytest.fixture
def run(raw: dict[str, Any]) -> Run:
    return recipe.build(raw)


def looked(run: Run, store: Path, **over: Any) -> list[Finding]:
    """What is found at north."""
    own = hospital(run, "north", store, **over)
    here, seen = at_hospital(run, own), list[Seen]()
    found = find_cases(here)
    assert not [finding for finding in check_run(here, found, seen=seen) if finding.level == "error"]
    return hindrances(run.agreed(), here, own, found, seen)


def texts(findings: list[Finding], level: str) -> list[str]:
    return [finding.message for finding in findings if finding.level == level]


def test_nothing_stands_in_the_way(run: Run, tmp_path: Path) -> None:
    kit = kits(tmp_path / "kits") / "hospitals" / "north"
    findings = looked(run, tmp_path / "store", kit=kit)
    (note,) = findings
    assert note.level == "note"
    assert "kit: of trial, until 2" in note.message
    assert "for the server fl.example.org:8002" in note.message
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"runs": ["other"]}, "takes no part: the run 'small' ("),
        ({"leaves": []}, "would leave; no pattern of policy.leaves allows it"),
        ({"max_rounds": 2}, "it has 3 rounds; policy.max_rounds is 2"),
        ({"min_subjects": 2}, "fewer training subjects than policy.min_subjects, 2"),
    ],
)
def test_what_the_policy_would_refuse(run: Run, tmp_path: Path, policy: dict[str, Any], says: str) -> None:
    allows = {"runs": ["small"], "leaves": ["*"], "min_subjects": 1, **policy}
    (text,) = texts(looked(run, tmp_path / "store", policy=allows), "error")
    assert says in text


def test_a_method_that_pools_the_data(raw: dict[str, Any], tmp_path: Path) -> None:
    run = recipe.build({**raw, "algorithm": {"name": "central"}})
    (text,) = texts(looked(run, tmp_path / "store"), "error")
    assert "'central' pools the data of all sites" in text


def test_a_kit_that_is_another_hospitals_or_none(run: Run, tmp_path: Path) -> None:
    south = kits(tmp_path / "kits") / "hospitals" / "south"
    (text,) = texts(looked(run, tmp_path, kit=south), "error")
    assert "is the kit of 'south'; this is 'north'" in text
    (text,) = texts(looked(run, tmp_path, kit=tmp_path / "none"), "error")
    assert "kit.json: is missing" in text
    assert texts(looked(run, tmp_path), "warning") == ["kit: SITE.yaml names none; `polysite join` needs one"]


def test_a_kit_that_ends_soon(run: Run, tmp_path: Path) -> None:
    kit = kits(tmp_path / "kits", member_days=10) / "hospitals" / "north"
    (text,) = texts(looked(run, tmp_path, kit=kit), "warning")
    assert "ends on" in text


def test_a_device_that_is_not_there(run: Run, tmp_path: Path) -> None:
    (text,) = texts(looked(run, tmp_path, device="cuda:99"), "error")
    assert "'cuda:99' is not on this machine" in text


def test_a_folder_in_the_place_of_which_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (text,) = texts(looked(run, tmp_path / "file" / "store"), "error")
    assert f"{tmp_path}/file/store: cannot be written to; {tmp_path}/file is not a folder" in text


def test_a_disk_that_is_too_small(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness.shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 1000, 1000))
    found = [text for text in texts(looked(run, tmp_path), "warning") if "needed" in text]
    assert found
    assert all("1 kB are free" in text for text in found)


# --- how much room ------------------------------------------------------------------------------------


def array_bytes(folder: Path) -> int:
    return sum(np.load(path, mmap_mode="r").nbytes for path in folder.rglob("*.npy"))


def test_prepared_cases_take_the_room_that_was_told(run: Run, tmp_path: Path) -> None:
    here = at_hospital(run, hospital(run, "north", tmp_path, cache=tmp_path / "cache"))
    found, seen = find_cases(here), list[Seen]()
    check_run(here, found, seen=seen)
    prepare_cases(here, found, split_cases(here, found))
    assert array_bytes(tmp_path / "cache" / "prepared") == room_for_cases(here, seen) > 0


def test_prepared_hearts_take_the_room_that_was_told(tmp_path: Path) -> None:
    """Each image on a grid of its own, resampled within its slices, which lie oblique."""
    cases = [write_heart(tmp_path / "data", f"{number:02d}", ("ED", "ES")) for number in (1, 2)]
    data = {"format": "bids", "path": str(tmp_path / "data"), "label_images": "labels"}
    raw = {
        "name": "hearts",
        "cache": str(tmp_path / "cache"),
        "contrasts": ["ED", "ES"],
        "sites": {"north": {"data": data, "labels": {"LV": 1, "MYO": 2, "RV": 3}}},
        "task": {"name": "segmentation"},
        "network": {"name": "unet"},
        "algorithm": {"name": "fedavg"},
        "split": {"test": 0.0},
    }
    run, found, seen = recipe.build(raw), {"north": cases}, list[Seen]()
    check_run(run, found, seen=seen)
    prepare_cases(run, found, split_cases(run, found))
    assert array_bytes(tmp_path / "cache" / "prepared") == room_for_cases(run, seen) > 0


def test_states_take_no_more_room_than_was_told(raw: dict[str, Any], tmp_path: Path) -> None:
    run = recipe.build(raw)
    across(raw, tmp_path)
    task = make_task(run)
    plan = make_plans(run, task, make_algorithm(run, task))["north"]
    model = n_bytes((*plan.shared.values(), *plan.private.values()))
    folder = run_folder(hospital(run, "north", tmp_path / "north"), run)
    states = sorted(folder.rglob("state.safetensors"))
    assert len(states) == 2
    for path in states:
        assert 0.9 * 3 * model < path.stat().st_size < 1.1 * 3 * model
    whole = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert whole < room_for_states(plan)


# --- the command --------------------------------------------------------------------------------------


def written(tmp_path: Path, raw: dict[str, Any], **over: Any) -> tuple[Path, Path]:
    """The run as the server sends it, and north's SITE.yaml."""
    sites = {name: {**site, "data": {"format": "elsewhere"}} for name, site in raw["sites"].items()}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**raw, "sites": sites}, sort_keys=False))
    content = {
        "site": "north",
        "data": raw["sites"]["north"]["data"],
        "cache": str(tmp_path / "cache"),
        "store": str(tmp_path / "store"),
        "kit": str(kits(tmp_path / "kits") / "hospitals" / "north"),
        "policy": {"runs": ["small"], "leaves": ["*"], "min_subjects": 1},
        **over,
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "run.yaml", tmp_path / "site.yaml"


def test_a_hospital_checks_itself(raw: dict[str, Any], run: Run, tmp_path: Path) -> None:
    said = well("check", *_with_site(written(tmp_path, raw)))
    assert f"small: digest {run.agreed().digest()}" in said
    assert "2 cases at 1 sites: 0 errors, 0 warnings, 1 notes" in said
    assert not (tmp_path / "store").exists()


def test_a_hospital_that_would_be_stopped_has_status_1(raw: dict[str, Any], tmp_path: Path) -> None:
    paths = written(tmp_path, raw)
    (tmp_path / "kits" / "hospitals" / "north" / "own.crt").unlink()
    done = polysite("check", *_with_site(paths))
    assert done.status == 1
    assert "own.crt: is missing" in done.out


def _with_site(paths: tuple[Path, Path]) -> tuple[object, ...]:
    return paths[0], "--site", paths[1]


def test_a_run_that_was_begun_with_other_scans(raw: dict[str, Any], run: Run, tmp_path: Path) -> None:
    across(raw, tmp_path)
    shutil.copytree(raw["sites"]["north"]["data"]["path"], tmp_path / "moved")
    data = {"format": "bids", "path": str(tmp_path / "moved")}
    (text,) = texts(looked(run, tmp_path / "north", data=data), "error")
    assert "was begun with another SITE.yaml" in text
