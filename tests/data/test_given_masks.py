"""Masks from files, from somebody else's program, and of the brain."""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from command import refused
from polysite import recipe
from polysite.config.prepare import Prepare
from polysite.config.sources import BidsData
from polysite.data.bids import read_cases
from polysite.data.given_masks import with_masks
from polysite.data.mask import brain_mask, foreground
from polysite.data.mask_command import mask_by_command
from polysite.data.prepare import prepare_case, prepare_site
from polysite.errors import ConfigError, DataError
from polysite.image import Image, read_image, write_image
from polysite.phantom.examination import examine
from polysite.phantom.hospital import hospital_named
from polysite.phantom.tissue import TISSUES

PATTERN = "derivatives/bet/{folder}/{name}_mask.nii.gz"


# --- files --------------------------------------------------------------------------------------------


@pytest.fixture
def masked(make_case):
    """A case with a mask beside each image: the left half of the head."""
    case = make_case()
    (given,) = with_masks([case], case.root, PATTERN)
    for contrast, path in given.masks.items():
        image = read_image(case.images[contrast])
        half = (image.array > 100) & (np.arange(image.shape[0]) < 16)[:, None, None]
        write_image(image.with_array(half), path, dtype="uint8")
    return given


def test_a_pattern_s_words_are_those_of_the_image(make_case):
    case = replace(make_case(), session="b")
    (given,) = with_masks([case], case.root, "x/{subject}_{session}_{contrast}/{folder}/{name}.nii.gz")
    assert given.masks["T2w"] == case.root / "x/01_b_T2w/sub-01/anat/sub-01_T2w.nii.gz"
    assert with_masks([case], case.root, None) == [case]
    assert with_masks([case], case.root, "/elsewhere/{name}")[0].masks["T1w"] == Path("/elsewhere/sub-01_T1w")
    assert list(given.parts()[0].masks) == ["T1w"]


def test_a_given_mask_decides_percentiles_and_makes_the_rest_background(masked, tmp_path):
    prepared = prepare_case(masked, Prepare(mask="given"), tmp_path / "cache")
    image, mask = read_image(masked.images["T1w"]).array, read_image(masked.masks["T1w"]).array > 0
    step = prepared.record["steps"]["T1w"]
    assert step["mask"]["kind"] == "given"
    assert step["percentiles"]["high"] == pytest.approx(np.percentile(image[mask], 99.5))
    np.testing.assert_array_equal(prepared.mask(), np.transpose(mask, (2, 0, 1)))
    assert (np.asarray(prepared.volume("T1w"))[~np.asarray(prepared.mask())] == -1).all()


def test_another_mask_is_another_entry_and_an_unused_one_is_none(masked, tmp_path):
    cache = tmp_path / "cache"
    first, unused = (prepare_case(masked, Prepare(mask=kind), cache) for kind in ("given", None))
    image = read_image(masked.masks["T2w"])
    write_image(image.with_array(image.array[::-1]), masked.masks["T2w"], dtype="uint8")
    assert prepare_case(masked, Prepare(mask="given"), cache).folder != first.folder
    assert prepare_case(masked, Prepare(), cache).folder == unused.folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda image: image.with_array(0 * image.array), "is empty"),
        (lambda image: image.with_array(0.5 * image.array), "has 6660 values that are no labels"),
        (
            lambda image: replace(image, affine=image.affine + np.eye(4)[[3, 0, 1, 2]].T * 5, header=None),
            "is not on the grid",
        ),
        (None, "cannot be read"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(masked, tmp_path, change, says):
    path = masked.masks["T2w"]
    image = read_image(path)
    path.unlink()
    if change:
        write_image(change(image), path)
    with pytest.raises(DataError, match=rf"derivatives/bet/sub-01/anat/sub-01_T2w_mask\.nii\.gz: {says}"):
        prepare_case(masked, Prepare(mask="given"), tmp_path / "cache")


def test_an_image_for_which_no_mask_is_given_is_named(make_case, tmp_path):
    with pytest.raises(DataError, match=r"sub-01_T1w\.nii\.gz: no mask is given"):
        prepare_case(make_case(), Prepare(mask="given"), tmp_path / "cache")


def test_bids_finds_images_and_not_masks(masked):
    (found,) = read_cases("north", BidsData(path=masked.root), ("T1w", "T2w"))
    assert found.images == masked.images


# --- a program ----------------------------------------------------------------------------------------

STRIP = """
import sys, nibabel, numpy as np
image = nibabel.load(sys.argv[1])
mask = image.get_fdata() > 250
nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), image.affine), sys.argv[2])
print("ran", file=open({log!r}, "a"))
"""


def program(tmp_path: Path, text: str, *more: str) -> tuple[str, ...]:
    file = tmp_path / "strip.py"
    file.write_text(text)
    return (sys.executable, str(file), "{input}", "{output}", *more)


def test_a_program_is_run_once_a_volume_and_its_mask_is_remembered(make_case, tmp_path):
    log = tmp_path / "log"
    command = program(tmp_path, STRIP.format(log=str(log)))
    settings = Prepare(mask="command", mask_command=command)
    (case,) = prepare_site([make_case()], settings, tmp_path / "cache")
    assert log.read_text().count("ran") == 2
    assert case.record["steps"]["T1w"]["mask"]["kind"] == "command"
    values = read_image(make_case().images["T1w"]).array
    np.testing.assert_array_equal(case.mask(), np.transpose(values > 250, (2, 0, 1)))
    prepare_site(
        [make_case()], settings.model_copy(update={"spacing_mm": (4.0, 4.0, 4.0)}), tmp_path / "cache"
    )
    assert log.read_text().count("ran") == 2
    prepare_site(
        [make_case()], settings.model_copy(update={"mask_command": (*command, "--fast")}), tmp_path / "cache"
    )
    assert log.read_text().count("ran") == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise SystemExit('no licence found')", "failed with status 1: no licence found"),
        ("", "ended well but wrote no output.nii.gz"),
        (
            "import sys, nibabel, numpy as np\n"
            "nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3)), np.eye(4)), sys.argv[2])",
            "on another grid",
        ),
        (
            "import sys, nibabel\ni = nibabel.load(sys.argv[1])\n"
            "nibabel.save(nibabel.Nifti1Image(0 * i.get_fdata(), i.affine), sys.argv[2])",
            "marked 0.0 % of the volume",
        ),
        (
            "import sys, nibabel, numpy as np\ni = nibabel.load(sys.argv[1])\n"
            "nibabel.save(nibabel.Nifti1Image(np.nan * i.get_fdata(), i.affine), sys.argv[2])",
            "NaN or infinite",
        ),
    ],
)
def test_what_a_program_does_wrong_is_said_with_the_file(make_case, tmp_path, text, says):
    settings = Prepare(mask="command", mask_command=program(tmp_path, text))
    with pytest.raises(DataError, match=rf"sub-01_T1w\.nii\.gz: .*{says}"):
        prepare_site([make_case()], settings, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.json"))


def image() -> Image:
    return Image(np.ones((8, 8, 8), np.float32), np.eye(4))


def test_a_program_that_is_not_there_or_too_slow_is_named(tmp_path):
    with pytest.raises(DataError, match="'no-such-program' cannot be started: No such file"):
        mask_by_command(image(), ["no-such-program", "{input}", "{output}"], timeout_s=5)
    child = tmp_path / "child"
    slow = (
        "import subprocess, time\n"
        f"open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\n"
        "time.sleep(60)"
    )
    with pytest.raises(DataError, match="was not done after 5 s; raise mask_timeout_s"):
        mask_by_command(image(), program(tmp_path, slow), timeout_s=5)
    assert gone(int(child.read_text()))


def gone(pid: int) -> bool:
    """Whether a process has ended, or soon has (one whose parent has ended may wait to be collected)."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_no_shell_sees_the_words(make_case, tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(DataError, match=r"cannot be started|failed"):
        mask_by_command(image(), [f"true; touch {mark}", "{input}", "{output}"], timeout_s=5)
    assert not mark.exists()


# --- the run's YAML -----------------------------------------------------------------------------------


def raw(data=None, **prepare):
    return {
        "name": "x",
        "contrasts": ["T1w", "T2w"],
        "sites": {"north": {"data": {"format": "bids", "path": "x", **(data or {})}, "tasks": ["T1w->T2w"]}},
        "prepare": prepare,
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (raw(mask="command"), "`mask: command` and `mask_command` go together"),
        (raw(mask_command=["bet", "{input}", "{output}"]), "`mask: command` and `mask_command` go together"),
        (raw(mask="command", mask_command=["bet", "{input}"]), "must name both {input} and {output}"),
        (raw(mask="given"), "needs `masks`, because prepare.mask is 'given'"),
        (raw({"masks": "{person}.nii.gz"}), "{person} in '{person}.nii.gz' is none of contrast, folder"),
    ],
)
def test_half_a_description_is_refused(content, says):
    with pytest.raises(ConfigError) as refusal:
        recipe.build(content)
    assert says in str(refusal.value)


def test_a_run_folder_s_program_is_not_started_unasked(trained, tmp_path):
    """Somebody else's model may come with a program in its config.yaml."""
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["prepare"] |= {"mask": "command", "mask_command": ["rm", "{input}", "{output}"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    facts = json.loads((folder / "environment.json").read_text())
    facts["run"] = recipe.build(config).digest()
    (folder / "environment.json").write_text(json.dumps(facts))
    for command in (
        ("evaluate", folder),
        ("predict", folder, "--site", "abbey", "in.nii.gz", "out.nii.gz"),
        ("train", "--resume", folder),
    ):
        refused(*command, says=["names a program", "rm {input} {output}", "--run-commands"], status=2)


# --- the brain ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["abbey", "castle"])
def examination(request):
    hospital = hospital_named(request.param)
    return examine(hospital, hospital.contrasts, seed=3, number=1, voxel_mm=3.0)


def test_the_brain_is_found_roughly_in_every_contrast(examination):
    outside = [
        TISSUES.index(name) for name in ("air", "bone", "marrow", "fat", "muscle", "skin", "vitreous", "lens")
    ]
    truth = ~np.isin(examination.labels, outside)
    tissue = truth & (examination.labels != TISSUES.index("csf"))
    spacing = np.asarray(examination.grid.step_mm)
    for scan in examination.scans:
        mask, kind = foreground(np.asarray(scan.image, np.float32), spacing, "brain")
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        kept = (mask & tissue).sum() / tissue.sum()
        assert kind == "found brain"
        assert dice > 0.85, (scan.protocol.contrast, dice)
        assert kept > 0.9, (scan.protocol.contrast, kept)


def test_a_brain_without_its_skull_is_taken_as_it_is():
    brain = np.zeros((30, 30, 30), np.float32)
    brain[5:25, 5:25, 5:25] = 100
    mask, kind = foreground(brain, np.full(3, 2.0), "brain")
    assert kind == "brain"
    np.testing.assert_array_equal(mask, brain > 0)


def test_a_tiny_or_dark_volume_does_not_break_it():
    for array in (np.zeros((4, 4, 4), np.float32), np.ones((9, 9, 9), np.float32)):
        assert brain_mask(array, np.ones(3)).shape == array.shape
