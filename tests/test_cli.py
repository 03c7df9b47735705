"""What a user can do wrong: one clear message, a status other than 0, nothing half-written, no traceback."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from command import files, polysite, well

BRIDGE = "{format: bids, path: data/bridge}"
"""How the fixture ``run_yaml`` writes the second site's data."""


@pytest.fixture
def run_yaml(clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the clinic's YAML, changed, into an empty current directory that has its ``data``."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(clinic / "data")

    def write(old: str = "", new: str = "") -> Path:
        text = (clinic / "run.yaml").read_text().replace(f"{clinic}/data", "data")
        assert old in text
        path = Path("run.yaml")
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    return write


def refused(*arguments: object, says: list[str], status: int | None = None) -> None:
    """A command that must fail with all these words in its only message."""
    done = polysite(*arguments)
    assert done.status not in (0, None), done.out
    assert status is None or done.status == status
    for words in says:
        assert words in done.err, done.err
    assert "Traceback" not in done.err


# --- the YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("rounds: 2", "ruonds: 2", ["run.yaml:14", "training.ruonds", "check its spelling"]),
        ("rounds: 2", "rounds: -1", ["run.yaml:14", "training.rounds", "not -1"]),
        ("rounds: 2", "rounds: 99999999999999999999", ["training.rounds"]),
        ("rounds: 2", "rounds: .nan", ["training.rounds", "nan"]),
        ("rounds: 2", "rounds: 2, learning_rate: .inf", ["training.learning_rate", "finite"]),
        ("rounds: 2", "rounds: 2, betas: [1, 2]", ["training.betas.0"]),
        ("batch_size: 2", "batch_size: 100000000", ["training.batch_size"]),
        ("pflsynth, width: 4", "pflsynth, width: -4", ["network.width", "not -4"]),
        ("n_blocks: 1", "n_blocks: 1000000", ["network.n_blocks"]),
        ("image_size: 24", "image_size: 25", ["task.image_size", "multiples of 4", "not 25"]),
        ("name: tiny", "name: tiny\nname: other", ["run.yaml:2", "'name'", "twice (first in line 1)"]),
        ("  bridge:", "  abbey:", ["'abbey'", "twice (first in line 5)"]),
        ("{rounds: 2", "{rounds: 2, rounds: 3", ["run.yaml:14", "'rounds'", "twice"]),
        ("name: tiny", "name:\ttiny\n\tseed: 1", ["run.yaml:", "spaces, not with tabs"]),
        ("name: tiny", "name: ../x", ["run.yaml:1: name", "'../x'"]),
        ("name: tiny", "name: 2020-02-31", ["put the value in quotes"]),
        ("name: tiny", "name: tiny\n3: x", ["a key must be text, not 3"]),
        ("  bridge:", "  ../x:", ["run.yaml:8", "'../x'", "letters, digits"]),
        ("  bridge:", "  pooled:", ["sites.pooled", "cannot be called"]),
        ("T2w->PDw", "T2w->XX", ["run.yaml:7", "'XX' in 'T2w->XX'", "(T1w, T2w, PDw)"]),
        ("T2w->PDw", "T2w", ["write 'SOURCE->TARGET'"]),
        ("[T1w, T2w, PDw]", "[T1w]", ("T2w", "is not among `contrasts` (T1w)")),
        ("[T1w, T2w, PDw]", "T1w", ["contrasts", "must be a list"]),
        ("{name: pflsynth}", "{name: pflsnyth}", ["run.yaml:13", "did you mean 'pflsynth'", "fedavg"]),
        ("{name: pflsynth}", "{name: pflsynth, preset: [x]}", ["run.yaml:13", "not a preset"]),
        ("{name: pflsynth}", "pflsynth", ["run.yaml:13: algorithm", "mapping"]),
        ("{name: pflsynth}", "{name: pflsynth, shared: [nowhere]}", ["algorithm.shared", "'nowhere'"]),
        (
            BRIDGE,
            "{format: bids, path: data/nowhere}",
            ["data/nowhere: no such folder", "sites.bridge.data.path"],
        ),
        (BRIDGE, "{format: bids, path: '${NOT_SET_AT_ALL}/x'}", ["sites.bridge.data.path", "NOT_SET_AT_ALL"]),
        (BRIDGE, "{format: bisd, path: data/bridge}", ["sites.bridge.data", "bids, table, files", "'bisd'"]),
        (BRIDGE, "{path: data/bridge}", ["sites.bridge.data", "format: choose one of"]),
        (BRIDGE, "data/bridge", ["sites.bridge.data", "mapping"]),
        (BRIDGE, "{format: bids, path: data/bridge, contrasts: {T9: x}}", ["'T9' is not among `contrasts`"]),
        (BRIDGE, "{format: bids, path: data/bridge, where: {site: no}}", ["where.site", "in quotes"]),
        (BRIDGE, "{format: bids, path: data/abbey}", ["abbey01", "is at 'abbey' too"]),
        (BRIDGE, "{format: files, path: data, pattern: '/{subject}-{contrast}.nii'}", ["below `path`"]),
        (BRIDGE, "{format: table, path: nowhere.csv}", ["nowhere.csv: cannot be read"]),
        (BRIDGE, "{format: phantom, hospital: brige}", ["sites.bridge", "did you mean 'bridge'"]),
        (BRIDGE, "{format: phantom, hospital: bridge, contrasts: [PDw]}", ["'PDw' is not acquired"]),
        ("test: 0.34", "test: 0.7, validation: 0.7", ["split", "at most 1"]),
        ("test: 0.34", "test: 0.3, subjects: {x: {}}", ["split.subjects.x", "abbey, bridge"]),
        ("test: 0.34", "test: 0.3, subjects: {abbey: {train: [zz]}}", ["'zz'", "abbey01, abbey02"]),
        ("name: here", "name: her", ["engine.name", "did you mean 'here'"]),
        ("name: tiny", "name: tiny\ndevice: banana", ["run.yaml:2: device", "cuda:1", "'banana'"]),
        ("name: tiny", "name: tiny\nprepare: {percentiles: [90, 10]}", ["prepare.percentiles", "lower one"]),
        ("name: tiny", "name: tiny\nprepare: {reference: XX}", ["prepare.reference", "'XX'"]),
        ("name: tiny", "name: tiny\nprepare: {spacing_mm: [0, 1, 1]}", ["prepare.spacing_mm"]),
        ("/cache\n", "/run.yaml/c\n", ["cache:", "cannot be made"]),
        ("/cache\n", "/${NOT_SET_AT_ALL}\n", ["cache:", "NOT_SET_AT_ALL"]),
    ],
)
def test_a_wrong_yaml_names_key_value_and_remedy_and_leaves_nothing(run_yaml, old, new, says):
    path = run_yaml(old, new)
    before = files(Path.cwd())
    refused("train", path, "--out", "out", says=says)
    assert files(Path.cwd()) == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: b: c", "run.yaml:1: is not valid YAML"),
        (b"", "must be a mapping"),
        (b"[" * 5000, "nested too deeply"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a: &a [*a]", "name: this key is required"),
        (b"{{a: 1}: 2}", "is not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_refused(tmp_path, content, says):
    (tmp_path / "run.yaml").write_bytes(content)
    refused("plan", tmp_path / "run.yaml", says=[says], status=2)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("rounds", "write KEY.KEY=VALUE"),
        ("=1", "write KEY.KEY=VALUE"),
        ("training.rounds=0", "--set training.rounds=0: training.rounds"),
        ("training.rounds=[", "is not a YAML value"),
        ("training=5", "--set training=5: training: must be a mapping"),
        ("a.b.c=1", "--set a.b.c=1: a: unknown key"),
        ("sites.abbey.tasks=[T1w->XX]", "--set sites.abbey.tasks=[T1w->XX]: sites.abbey.tasks"),
        ("name=../x", "--set name=../x: name"),
        ("algorithm.name=x", "--set algorithm.name=x: algorithm.name: 'x' is not one of the algorithms"),
    ],
)
def test_a_wrong_override_is_quoted(clinic, tmp_path, override, says):
    refused("train", clinic / "run.yaml", "--out", tmp_path / "out", "--set", override, says=[says], status=2)
    assert not files(tmp_path)


# --- data ---------------------------------------------------------------------------------------------


def test_a_site_with_one_contrast_is_refused_before_anything_is_made(run_yaml, clinic):
    shutil.copytree(clinic / "data/bridge", "single")
    for path in Path("single").glob("sub-*/anat/*"):
        if "T1w" not in path.name:
            path.unlink()
    path = run_yaml(BRIDGE, "{format: bids, path: single}")
    refused("train", path, "--out", "out", says=["bridge", "has T1w only", "T1w->T2w", "remove the task"])
    assert not Path("out").exists()
    assert polysite("check", path).status == 1


def test_a_task_whose_target_no_training_subject_has_is_refused(run_yaml, clinic):
    path = run_yaml("test: 0.34", "test: 0.34, subjects: {abbey: {train: [abbey01], test: [abbey02]}}")
    shutil.copytree(clinic / "data/abbey", "partly")
    Path("partly/sub-abbey01/anat/sub-abbey01_PDw.nii.gz").unlink()
    path.write_text(path.read_text().replace("data/abbey", "partly"))
    refused("train", path, "--out", "out", says=["abbey", "T2w->PDw", "split.subjects.abbey.train"])
    assert not Path("out").exists()


def test_a_folder_with_other_things_is_not_written_into(clinic, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    refused("train", clinic / "run.yaml", "--out", tmp_path, says=["is there already", "--out"])
    assert files(tmp_path) == ["thesis.txt"]


# --- a run folder -------------------------------------------------------------------------------------


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to be damaged."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)


def swap(old: str, new: str, path: Path) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


STATE = "sites/abbey/store/round-000002/state"


@pytest.mark.parametrize(
    ("file", "damage", "verb", "says"),
    [
        (f"{STATE}.safetensors", cut, "train", "SHA-256"),
        (f"{STATE}.safetensors", flip, "train", "SHA-256"),
        (f"{STATE}.json", cut, "train", "cut short or altered"),
        (f"{STATE}.json", partial(swap, '"version": 2', '"version": 7'), "train", "was edited"),
        ("server/store/round-000002/state.safetensors", flip, "train", "SHA-256"),
        ("sites/abbey/model.safetensors", cut, "evaluate", "polysite train --resume"),
        ("sites/abbey/model.safetensors", flip, "evaluate", "polysite train --resume"),
        ("models.json", cut, "evaluate", "polysite train --resume"),
        ("models.json", Path.unlink, "evaluate", "training has not ended"),
        ("config.yaml", cut, "train", "restore"),
        ("config.yaml", partial(swap, "rounds: 2", "rounds: 5"), "train", "was edited after the run began"),
        ("config.yaml", Path.unlink, "train", "is no run folder"),
        ("splits.json", cut, "train", "no file of splits"),
        ("splits.json", partial(swap, "abbey01", "abbey09"), "train", "was edited after the run began"),
        ("share_plan.json", cut, "train", "cut short or altered"),
        ("share_plan.json", partial(swap, "enc1", "enc9"), "train", "what leaves a site"),
        ("environment.json", cut, "train", "cut short or altered"),
        ("scores.csv", cut, "report", "scores.csv"),
    ],
)
def test_a_damaged_run_is_refused_by_the_name_of_its_file(copy, file, damage, verb, says):
    damage(copy / file)
    arguments = ("train", "--resume", copy) if verb == "train" else (verb, copy)
    refused(*arguments, says=[file.split("/")[-1] if "no run" not in says else "run", says])


def test_a_damaged_model_is_written_again_by_resume(copy):
    path = copy / "sites/abbey/model.safetensors"
    whole = path.read_bytes()
    cut(path)
    well("train", "--resume", copy)
    assert path.read_bytes() == whole


def test_a_damaged_prepared_case_is_prepared_again(clinic, trained, tmp_path):
    cache = Path(shutil.copytree(clinic / "cache", tmp_path / "cache"))
    path = sorted(cache.glob("prepared/sub-abbey01*/T1w.npy"))[0]
    whole = path.read_bytes()
    flip(path)
    command = ("prepare", clinic / "run.yaml", "--set", f"cache={cache}")
    assert polysite(*command).err == "abbey: preparing\n"
    assert path.read_bytes() == whole


def test_another_number_of_sites_at_resume_is_refused_with_what_differs(trained, clinic, tmp_path):
    text = (clinic / "run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(text[: text.index("  bridge:")] + text[text.index("task:") :])
    refused(
        *("train", "--resume", trained, tmp_path / "run.yaml"),
        says=["another configuration", "sites.bridge.data.path", "-> absent", "another --out"],
        status=2,
    )
    for extra in (["--set", "training.rounds=9"], ["--device", "cpu"], ["--seed", "1"]):
        refused("train", "--resume", trained, *extra, says=["--resume takes the folder's own"])
    refused("train", "--resume", tmp_path / "nowhere", says=["no such folder"])
    refused("train", "--resume", clinic / "data", says=["has no config.yaml"])
    refused("train", clinic / "run.yaml", "--out", trained, says=["holds a run already", "--resume"])


def test_what_needs_a_finished_training_says_so(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr("polysite.run.federate", lambda *parts: (_ for _ in ()).throw(KeyboardInterrupt))
    folder = tmp_path / "run"
    done = polysite("train", clinic / "run.yaml", "--out", folder)
    assert done.status == 130
    assert f"stopped; go on with: polysite train --resume {folder}" in done.err
    refused("evaluate", folder, says=["training has not ended", f"--resume {folder}"])
    refused("predict", folder, "--site", "abbey", "in.nii.gz", "out.nii.gz", says=["training has not ended"])
    well("report", folder, "--out", tmp_path / "report.html")
    assert "has not finished" in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- predict and report -------------------------------------------------------------------------------


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


# --- the system ---------------------------------------------------------------------------------------

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_file_that_cannot_grow_is_named_and_earlier_rounds_stay(clinic, tmp_path):
    """A limit on the size of files stands for a full disk: the write fails half-way in both."""
    done = subprocess.run(
        [sys.executable, "-m", "polysite", "train", clinic / "run.yaml", "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [name for name in files(tmp_path) if ".tmp" in name]
    well("train", "--resume", tmp_path / "run")


@pytest.mark.parametrize("engine", ["here", "processes"])
def test_ctrl_c_ends_a_training_and_all_that_it_started(clinic, tmp_path, engine):
    options = ["--set", "training.rounds=100000", "--set", f"engine={{name: {engine}, threads: 1}}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "polysite", "train", clinic / "run.yaml", "--out", tmp_path / "run", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "run/server/store/round-000001").exists() and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        started = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert f"polysite: stopped; go on with: polysite train --resume {tmp_path / 'run'}" in err
    assert "Traceback" not in err
    assert bool(started) == (engine == "processes")
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not [name for name in files(tmp_path) if ".tmp" in name]


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [
        int(found)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for found in (task / "children").read_text().split()
    ]
