"""What can be wrong in a run folder: one clear message, a status other than 0, nothing half-written."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml

from command import polysite, refused, well
from polysite.config.run import digest_of
from polysite.run import open_run


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


def test_a_folder_from_before_a_setting_existed_is_still_itself(copy):
    """Upgrading must not lock anybody out of a trained model: what the file does not name is not in its digest."""
    swap("  validation_slices: 16\n", "", copy / "config.yaml")
    refused("evaluate", copy, says=["was edited after the run began"])
    digest = digest_of(yaml.safe_load((copy / "config.yaml").read_text()))
    record = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps({**record, "run": digest}))
    before = (copy / "scores.csv").read_bytes()
    well("evaluate", copy)
    assert (copy / "scores.csv").read_bytes() == before
    assert open_run(copy).training.validation_slices == 16
    assert open_run(copy).digest() == digest


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
