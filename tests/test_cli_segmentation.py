"""What a user can do wrong in segmentation: as in ``test_cli``, one clear message and nothing half-written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from command import files, polysite, refused, well
from polysite.image import read_image

RUN = """\
name: hearts
contrasts: [ED, ES]
cache: cache
sites:
  ivy:
    data: {format: bids, path: data/ivy, label_images: derivatives/truth, contrasts: ENDINGS}
    labels: {LV: 1, MYO: 2, RV: 3}
  juno:
    data: {format: bids, path: data/juno, label_images: derivatives/truth, contrasts: ENDINGS}
    labels: {LV: 1, MYO: 2, RV: 3}
task: {name: segmentation, image_size: 24, augment: null}
network: {name: fedcrld, width: 8}
algorithm: {name: fedcrld}
prepare: {spacing_mm: [6, 6, null]}
training: {rounds: 1, steps_per_round: 1}
split: {test: 0.34}
engine: {name: here, threads: 1}
""".replace("ENDINGS", "{ED: rec-ED_cine, ES: rec-ES_cine}")
LABELS = "labels: {LV: 1, MYO: 2, RV: 3}"
TRUTH = Path("data/ivy/derivatives/truth")
FIVE = "augment: null, classes: [LV, MYO, RV, scar, no-reflow]"


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two phantom heart centres of three subjects in ``data/``; not to be changed."""
    folder = tmp_path_factory.mktemp("ward")
    well("phantom", folder / "data", "--kind", "cardiac", "--sites", 2, "--subjects", 3, "--voxel-mm", 6)
    return folder


@pytest.fixture(scope="module")
def trained_ward(ward: Path) -> Path:
    """A trained and evaluated run of the ward; not to be changed."""
    text = RUN.replace("path: data", f"path: {ward}/data").replace("cache: cache", f"cache: {ward}/cache")
    (ward / "run.yaml").write_text(text, encoding="utf-8")
    well("train", ward / "run.yaml", "--out", ward / "run")
    well("evaluate", ward / "run")
    return ward / "run"


@pytest.fixture
def hearts(ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the YAML, changed, into an empty current directory that has a copy of the ``data``."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ward / "data", "data")

    def write(*changes: tuple[str, str]) -> Path:
        text = RUN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = Path("run.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


def rewrite(path: Path, change: Callable[[NDArray[np.float32]], NDArray[Any]]) -> None:
    """Give an image other values, perhaps of another shape."""
    image = read_image(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(change(image.array), np.float32), image.affine), path)


# --- the YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (LABELS, "tasks: [ED->ES]", ["run.yaml:5", "sites.ivy", "`labels`", "task is segmentation"]),
        (LABELS, f"{LABELS}\n    tasks: [ED->ES]", ["run.yaml:5", "not both"]),
        ("name: segmentation, image_size: 24, augment: null", "name: synthesis", ["sites.ivy", "`tasks`"]),
        ("LV: 1", "LV: 0", ["run.yaml:7: sites.ivy.labels.LV: Input", "1, not 0"]),
        ("LV: 1", "LV: true", ["sites.ivy.labels.LV: must be a whole number, not True"]),
        ("LV: 1", "LV: one", ["sites.ivy.labels.LV: must be a whole number, not 'one'"]),
        ("LV: 1", "LV: []", ["sites.ivy.labels.LV: needs at least 1 entries"]),
        ("LV: 1", "LV: [1, 0]", ["sites.ivy.labels.LV.1", "not 0"]),
        ("LV: 1", "LV: 2", ["sites.ivy.labels", "a value stands for two classes"]),
        ("LV: 1", "background: 1", ["'background' is every value that no class has"]),
        (LABELS, "labels: {values: 1}", ["sites.ivy.labels", "'values'", "rename the class"]),
        ("augment: null", "augment: null, classes: [LV, MYO]", ["sites.ivy", "'RV'", "background, LV, MYO"]),
        (LABELS, f"{LABELS}\n    part_of: {{scar: MYO}}", ["sites.ivy.part_of", "`task.classes`", "set it"]),
        ("image_size: 24", "image_size: 0", ["run.yaml:11: task.image_size: Input", "equal to 8, not 0"]),
        ("image_size: 24", "image_size: 7", ["task.image_size: Input", "equal to 8, not 7"]),
        ("image_size: 24", "image_size: 100000", ["task.image_size", "2048, not 100000"]),
        ("image_size: 24", "image_size: [24, 24, 24]", ["task.image_size: needs at most 2 entries"]),
        ("image_size: 24", "image_size: {x: 24}", ["task.image_size: Input should be a valid integer"]),
        ("[6, 6, null]", "[0, 6, null]", ["prepare.spacing_mm.0", "not 0"]),
        ("[6, 6, null]", "[6, 6]", ["run.yaml:14: prepare.spacing_mm", "more entries than [6, 6] has"]),
        ("[6, 6, null]", "6", ["prepare.spacing_mm: must be a list"]),
        ("augment: null", "augment: {flip: 1}", ["task.augment.flip: unknown key"]),
        ("augment: null", "augment: {mirror: 2}", ["task.augment.mirror", "not 2"]),
        ("augment: null", "augment: {scale_range: [2, 1]}", ["scale_range", "the lower one first"]),
        (
            "augment: null",
            "augment: null, dice_weight: 0, cross_entropy_weight: 0",
            ["task: dice_weight and cross_entropy_weight are both 0"],
        ),
        ("fedcrld, width: 8", "pflsynth, width: 8", ["network.name: 'pflsynth'", "fedcrld, unet"]),
        ("fedcrld, width: 8", "unet, width: 8", ["algorithm.shared", "use network: {name: fedcrld}"]),
        ("algorithm: {name: fedcrld}", "algorithm: {name: pflsynth}", ["algorithm.shared", "another algor"]),
        (
            "data: {format: bids",
            "data: {format: phantom, kind: cardiac, hospital: abbey}\n    old: {format: bids",
            ["sites.ivy.old: unknown key"],
        ),
    ],
)
def test_a_wrong_yaml_names_key_value_and_remedy_and_leaves_nothing(hearts, old, new, says):
    path = hearts((old, new))
    before = files(Path.cwd())
    refused("train", path, "--out", "out", says=says)
    assert files(Path.cwd()) == before


@pytest.mark.parametrize(
    ("part_of", "says"),
    [
        ("{zzz: MYO}", ["sites.ivy: 'zzz' is not one of the classes background, LV"]),
        ("{scar: zzz}", ["sites.ivy: 'zzz' is not one of the classes background, LV"]),
        ("{scar: no-reflow, no-reflow: scar}", ["run.yaml:8: sites.ivy.part_of.scar", "in a circle"]),
        ("{scar: scar}", ["sites.ivy.part_of.scar", "in a circle: scar in scar"]),
        ("{scar: no-reflow}", ["'no-reflow', which must come before it"]),
        ("{RV: MYO}", ["sites.ivy.part_of.RV", "labels of its own"]),
        ("MYO", ["sites.ivy.part_of: must be a mapping"]),
    ],
)
def test_what_is_part_of_what_is_a_tree_of_known_classes(hearts, part_of, says):
    refused("plan", hearts((LABELS, f"{LABELS}\n    part_of: {part_of}"), ("augment: null", FIVE)), says=says)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("kind: cardiac, hospital: abbey", ["'abbey'", "ivy, juno", "abbey is of kind: brain"]),
        ("kind: brain, hospital: ivy", ["'ivy'", "abbey, bridge", "ivy is of kind: cardiac"]),
        ("kind: heart, hospital: ivy", ["run.yaml:6: sites.ivy.data.kind", "'cardiac', not 'heart'"]),
        ("kind: cardiac, hospital: ivy, voxel_mm: 15", ["too coarse for a heart"]),
    ],
)
def test_a_phantom_hospital_of_another_kind(hearts, data, says):
    old = next(line for line in RUN.splitlines() if "data/ivy" in line)
    refused("train", hearts((old, f"    data: {{format: phantom, {data}}}")), "--out", "out", says=says)
    assert not Path("out").exists()


# --- label images -------------------------------------------------------------------------------------


def one_of(folder: Path, ending: str) -> Path:
    return sorted(folder.glob(f"sub-*/anat/*_{ending}.nii.gz"))[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda array: array[:-1], ["voxels instead of", "bring the labels to the image's grid"]),
        (lambda array: 0.37 * array, ["no labels (0.37, 0.74", "never interpolated"]),
        (lambda array: np.stack([array] * 2, 3), ["_dseg", "must be one 3-D volume", "a file of its own"]),
        (lambda array: -array, ["are no labels (-3, -2, -1)"]),
    ],
)
def test_a_label_image_that_is_none_stops_check_and_training(hearts, change, says):
    path = one_of(TRUTH, "dseg")
    rewrite(path, change)
    checked = polysite("check", hearts())
    assert (checked.status, "Traceback" in checked.err) == (1, False)
    refused("train", hearts(), "--out", "out", says=[path.name, *says], status=1)


def test_an_image_of_several_frames_names_the_remedy(hearts):
    path = one_of(Path("data/ivy"), "cine")
    rewrite(path, lambda array: np.stack([array] * 2, 3))
    refused("train", hearts(), "--out", "out", says=[path.name, "`frames` of a table"])
    assert "`frames` of a table" in " ".join(polysite("check", hearts()).out.split())


def test_a_site_without_label_images(hearts):
    for path in TRUTH.rglob("*_dseg.nii.gz"):
        path.unlink()
    refused("train", hearts(), "--out", "out", says=["ivy: no image has a label image", "label_images"])
    assert not Path("out").exists()


def test_training_subjects_without_label_images(hearts):
    for path in TRUTH.rglob("*_dseg.nii.gz"):
        if "ivy03" not in path.name:
            path.unlink()
    split = ("test: 0.34", "subjects: {ivy: {train: [ivy01, ivy02], test: [ivy03]}}")
    refused("train", hearts(split), "--out", "out", says=["ivy: no training subject has", "split.subjects"])
    assert not Path("out").exists()


def test_a_value_that_is_not_in_the_label_images_beside_one_that_has_no_class(hearts):
    says = ["ivy: no label image has the class RV (value 9)", "does not name: 3", "sites.ivy.labels"]
    refused("train", hearts(("RV: 3", "RV: 9")), "--out", "out", says=says, status=1)
    assert polysite("check", hearts(("RV: 3", "RV: 9"))).status == 1


def test_a_rare_class_is_told_of_and_trained(hearts):
    done = polysite("train", hearts(("RV: 3", "RV: 3, scar: 4")), "--out", "out")
    assert done.status == 0, done.err
    assert "ivy: no label image has the class scar (value 4)" in done.err


def test_label_images_of_zeros(hearts):
    for path in TRUTH.rglob("*_dseg.nii.gz"):
        rewrite(path, np.zeros_like)
    refused("train", hearts(), "--out", "out", says=["ivy: no label image has a label"], status=1)


def test_a_test_subject_without_a_heart(hearts):
    for path in (TRUTH / "sub-ivy03").rglob("*_dseg.nii.gz"):
        rewrite(path, np.zeros_like)
    split = ("test: 0.34", "subjects: {ivy: {train: [ivy01, ivy02], test: [ivy03]}}")
    well("train", hearts(split), "--out", "out")
    well("evaluate", "out")
    well("report", "out")


def test_volumes_of_one_slice(hearts):
    for path in [*TRUTH.rglob("*_dseg.nii.gz"), *Path("data/ivy").glob("sub-*/anat/*.nii.gz")]:
        rewrite(path, lambda array: array[:, :, 5:6])
    well("train", hearts(), "--out", "out")
    well("evaluate", "out")
    source, out = one_of(Path("data/ivy"), "cine"), Path("made.nii.gz")
    well("predict", "out", source, out, "--site", "ivy")
    assert read_image(out).shape == read_image(source).shape


def test_one_class_and_one_list_in_one_place(hearts):
    one = (LABELS, "labels: {heart: [1, 2, 3]}")
    well("train", hearts(one, one), "--out", "single")
    well("evaluate", "single")
    common = ("augment: null", "augment: null, classes: [LV, MYO, RV]")
    central = ("algorithm: {name: fedcrld}", "algorithm: {name: central}")
    well("train", hearts((LABELS, "labels: {LV: 1}"), common, central), "--out", "central")
    well("evaluate", "central")


# --- after training -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda array: array[:, :, 0], ["must be one 3-D volume", "a third axis of length 1"]),
        (lambda array: np.stack([array] * 2, 3), ["must be one 3-D volume", "a file of its own"]),
        (np.zeros_like, ["constant"]),
    ],
)
def test_predict_refuses_what_is_no_volume(trained_ward, tmp_path, change, says):
    source = tmp_path / "scan.nii.gz"
    shutil.copy(one_of(trained_ward.parent / "data/ivy", "cine"), source)
    rewrite(source, change)
    refused("predict", trained_ward, source, tmp_path / "out.nii.gz", "--site", "ivy", says=["scan", *says])
    assert files(tmp_path) == ["scan.nii.gz"]


def test_predict_refuses_what_is_no_image_and_no_task(trained_ward, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"no image")
    made = tmp_path / "out.nii.gz"
    refused("predict", trained_ward, tmp_path / "scan.nii.gz", made, "--site", "ivy", says=["scan", "unread"])
    arguments = ("predict", trained_ward, tmp_path / "scan.nii.gz", made, "--site", "ivy", "--task")
    refused(*arguments, "T1w", says=["--task 'T1w'", "ED, ES"])
    refused(*arguments, "ED->ES", says=["--task 'ED->ES'", "ED, ES"])
    assert files(tmp_path) == ["scan.nii.gz"]


def test_evaluate_before_the_training_has_ended(trained_ward, tmp_path):
    shutil.copytree(trained_ward, tmp_path / "run")
    (tmp_path / "run/sites/juno/model.safetensors").unlink()
    (tmp_path / "run/scores.csv").unlink()
    refused("evaluate", tmp_path / "run", says=["the training has not ended", "--resume"])
    assert not (tmp_path / "run/scores.csv").exists()


def test_a_run_is_not_continued_with_other_labels(trained_ward, tmp_path):
    shutil.copytree(trained_ward, tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("RV: 3", "RV: 2", 1).replace("MYO: 2", "MYO: 3", 1))
    for verb in (["train", "--resume"], ["evaluate"]):
        refused(*verb, tmp_path / "run", says=["config.yaml"])


def test_synthesis_and_segmentation_have_no_common_report(trained_ward, trained, tmp_path):
    out = tmp_path / "report.html"
    refused("report", trained_ward, trained, "--out", out, says=["segmentation and synthesis", "one task"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("{task: {name: synthesis}}", ["methods.b", "sites.ivy", "`tasks`"]),
        ("{network: {name: unet}, algorithm: {name: fedcrld}}", ["methods.b", "network: {name: fedcrld}"]),
        ("{algorithm: {name: pflsynth}}", ["methods.b", "algorithm.shared"]),
    ],
)
def test_a_study_is_refused_before_its_first_method_is_trained(hearts, method, says):
    hearts()
    Path("study.yaml").write_text(f"name: s\nrun: run.yaml\nmethods: {{a: {{}}, b: {method}}}\n")
    refused("compare", "study.yaml", "--out", "out", says=["study.yaml", *says])
    assert not Path("out").exists()


# --- methods of segmentation in synthesis -------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("algorithm: {name: pflsynth}", "algorithm: {name: fedcrld}", ["fedcrld compares features"]),
        ("pflsynth, width: 4, n_blocks: 1, latent: 8", "fedcrld, width: 8", ["'fedcrld'", "pflsynth"]),
        ("algorithm: {name: pflsynth}", "algorithm: {name: moon}", ["moon compares features"]),
    ],
)
def test_methods_of_segmentation_refuse_synthesis(clinic, tmp_path, old, new, says):
    text = (clinic / "run.yaml").read_text()
    assert old in text
    (tmp_path / "run.yaml").write_text(text.replace(old, new))
    refused("train", tmp_path / "run.yaml", "--out", tmp_path / "out", says=says, status=2)
