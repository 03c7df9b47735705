"""What can be wrong in a run's YAML and in its data: one clear message, a status other than 0, nothing half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command import files, polysite, refused

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


# --- the YAML ----------------------------------------------------------------------------------------


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
            "{name: pflsynth}",
            "{name: fedavg, private: [discriminator.*]}",
            ["algorithm.private: no tensor is called 'discriminator.*'", "discriminators.T1w-T2w, "],
        ),
        ("{name: pflsynth}", "{name: moon}", ["algorithm.name: moon compares features"]),
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


# --- data --------------------------------------------------------------------------------------------


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
