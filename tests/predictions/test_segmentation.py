"""From probabilities to label files in the site's own values, and from those to scores: with a task that is a fake."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from polysite.config.site import Site
from polysite.config.sources import PhantomData
from polysite.data.case import Case
from polysite.errors import ConfigError, DataError
from polysite.image import Image, read_image, write_image
from polysite.predictions.applied import applied
from polysite.predictions.outlines import shown_slices, sides_of
from polysite.predictions.predicting import write_prediction
from polysite.predictions.segmentation import AppliedSegmentation, written_values

OWN = ("background", "LV", "MYO", "RV")
SHAPE = (12, 10, 6)
AFFINE = np.array([[-1.5, 0.2, 0, 30], [0.2, 1.5, 1, -20], [0, -1, 8, 5], [0, 0, 0, 1.0]])


def site(**labels: Any) -> Site:
    return Site(data=PhantomData(hospital="x"), labels=labels or {"LV": 3, "MYO": (2, 4), "RV": 300})


@dataclass
class Prepared:
    """A prepared case whose grid is the native one with axes (z, x, y)."""

    part: str = "ED"
    key: str = "sub-01_ED"
    site: str = "ivy"

    @property
    def contrasts(self) -> tuple[str, ...]:
        return (self.part,)

    def to_native(self, volume: Any, *, contrast: str | None = None, outside: float = -1.0) -> Image:
        array = np.transpose(volume, (1, 2, 0)).astype(np.float32).copy()
        array[0] = outside  # a native plane that the prepared grid does not reach
        return Image(array, AFFINE, contrast, sform_code=1, qform_code=2)


def at_work(
    probabilities: Any, classes: tuple[str, ...] = OWN, own: Site | None = None
) -> AppliedSegmentation:
    predictor = SimpleNamespace(
        site="ivy",
        run=SimpleNamespace(
            sites={"ivy": own or site()},
            contrasts=("ED", "ES"),
            method="fedcrld-repaired",
            seed=7,
            task=SimpleNamespace(name="segmentation"),
            digest=lambda: "abc",
        ),
        task=SimpleNamespace(classes=lambda name: classes, predict=lambda model, case, name: probabilities),
        model=None,
    )
    made = applied(Path("run"), predictor)  # type: ignore[arg-type]
    assert isinstance(made, AppliedSegmentation)
    return made


def one_hot(labels: Any, n: int) -> Any:
    return np.moveaxis(np.eye(n, dtype=np.float32)[labels], -1, 0)


def some_labels(n: int = 4) -> Any:
    return np.random.default_rng(0).integers(n, size=(SHAPE[2], *SHAPE[:2]))


def case(folder: Path, truth: Any, name: str = "sub-01_rec-ED_cine.nii.gz") -> Case:
    image = Image(np.random.default_rng(1).uniform(0, 9, SHAPE).astype(np.float32), AFFINE)
    write_image(image, folder / name)
    write_image(image.with_array(truth), folder / "truth.nii.gz", dtype="uint16")
    return Case("ivy", "01", None, {"ED": folder / name}, folder, labels={"ED": folder / "truth.nii.gz"})


# --- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "labels", "part_of", "written"),
    [
        (OWN, {"LV": 3, "MYO": [2, 4], "RV": 300}, {}, (0, 3, 2, 300)),
        # a common list: what the site does not label has the label that it hides under
        ((*OWN, "infarct"), {"LV": 1, "MYO": 2, "RV": 3}, {"infarct": "MYO"}, (0, 1, 2, 3, 2)),
        ((*OWN, "infarct"), {"LV": 1, "MYO": 2, "infarct": 5}, {}, (0, 1, 2, 0, 5)),
        ((*OWN, "scar", "core"), {"LV": 1, "MYO": 2}, {"scar": "MYO", "core": "scar"}, (0, 1, 2, 0, 2, 2)),
        # a label that the run does not learn is nobody's
        (("background", "LV"), {"LV": 1, "MYO": 2}, {"infarct": "MYO"}, (0, 1)),
    ],
)
def test_every_class_is_written_as_a_value_of_the_site(classes, labels, part_of, written):
    own = Site(data=PhantomData(hospital="x"), labels=labels, part_of=part_of)
    assert written_values(classes, own) == written


def test_the_most_probable_class_wins_in_the_sites_values_and_outside_is_background():
    labels = some_labels()
    image = at_work(one_hot(labels, 4)).image(Prepared(), "ED")
    expected = np.array([0, 3, 2, 300])[np.transpose(labels, (1, 2, 0))]
    expected[0] = 0
    np.testing.assert_array_equal(image.array, expected)


def test_classes_that_are_one_label_here_are_taken_together():
    # neither myocardium nor infarct wins alone, but the site calls both myocardium
    probabilities = np.zeros((5, SHAPE[2], *SHAPE[:2]), np.float32)
    probabilities[0], probabilities[2], probabilities[4] = 0.4, 0.3, 0.3
    own = Site(data=PhantomData(hospital="x"), labels={"LV": 1, "MYO": 2}, part_of={"infarct": "MYO"})
    image = at_work(probabilities, (*OWN, "infarct"), own).image(Prepared(), "ED")
    assert set(np.unique(image.array[1:])) == {2}


def test_probabilities_of_other_classes_are_refused():
    with pytest.raises(DataError, match="3 probabilities a voxel for the classes background, LV, MYO, RV"):
        at_work(one_hot(some_labels(3), 3)).image(Prepared(), "ED")


# --- files --------------------------------------------------------------------------------------------


def test_a_prediction_is_a_bids_label_image_with_names_and_its_source(tmp_path):
    work = at_work(one_hot(some_labels(), 4))
    found = case(tmp_path, np.zeros(SHAPE))
    work.describe(tmp_path / "out")
    path = write_prediction(tmp_path / "out", found, work.image(Prepared(), "ED"), "ED", work)
    assert path == tmp_path / "out" / "sub-01" / "anat" / "sub-01_rec-ED_desc-pred_dseg.nii.gz"
    stored = nibabel.load(path)
    assert stored.get_data_dtype() == np.uint16
    assert (int(stored.header["sform_code"]), int(stored.header["qform_code"])) == (1, 2)
    np.testing.assert_allclose(stored.affine, AFFINE, atol=1e-5)
    assert set(np.unique(stored.dataobj)) == {0, 2, 3, 300}
    assert (tmp_path / "out" / "dseg.tsv").read_text() == (
        "index\tname\n0\tbackground\n2\tMYO\n3\tLV\n300\tRV\n"
    )
    about = json.loads(path.with_name("sub-01_rec-ED_desc-pred_dseg.json").read_text())
    assert about["Sources"] == ["bids:raw:sub-01_rec-ED_cine.nii.gz"]
    assert about["Labels"] == {"background": 0, "LV": 3, "MYO": 2, "RV": 300}


def test_small_values_need_a_byte_a_voxel(tmp_path):
    own = Site(data=PhantomData(hospital="x"), labels={"LV": 255})
    work = at_work(one_hot(some_labels(2), 2), ("background", "LV"), own)
    work.write(work.image(Prepared(), "ED"), tmp_path / "x.nii.gz")
    assert nibabel.load(tmp_path / "x.nii.gz").get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("file", "job", "name"),
    [
        ("sub-01_rec-ED_cine.nii.gz", "ED", "rec-ED_desc-pred_dseg"),
        ("sub-01_ses-2_acq-sax_run-1_LGE.nii.gz", "LGE", "acq-sax_rec-LGE_run-1_desc-pred_dseg"),
        ("sub-01_rec-norm_desc-x_cine.nii.gz", "E_D", "rec-normED_desc-pred_dseg"),
        ("patient001_frame01.nii.gz", "ED", "rec-ED_desc-pred_dseg"),
    ],
)
def test_names_keep_the_images_entities_and_tell_images_apart(file, job, name):
    found = Case("ivy", "01", None, {job: Path(file)})
    assert at_work(one_hot(some_labels(), 4)).name(found, job) == name


def test_the_image_is_known_by_its_name_and_any_image_will_do():
    work = at_work(one_hot(some_labels(), 4))
    assert work.fitting(Path("sub-01_rec-ES_cine.nii.gz")) == "ES"
    assert work.fitting(Path("scan.nii.gz")) == "ED"
    assert work.named("ES") == "ES"
    with pytest.raises(ConfigError, match="choose one of: ED, ES, or leave it out"):
        work.named("T1w->T2w")


def test_a_task_that_cannot_be_applied_is_named():
    predictor: Any = SimpleNamespace(run=SimpleNamespace(task=SimpleNamespace(name="toy")))
    with pytest.raises(ConfigError, match="'toy' can be trained but not applied"):
        applied(Path("run"), predictor)


# --- scores -------------------------------------------------------------------------------------------


def test_scores_are_of_the_classes_that_the_site_labels_and_of_all_their_values(tmp_path):
    labels = some_labels()
    truth = np.array([0, 3, 2, 300])[np.transpose(labels, (1, 2, 0))]
    truth[0] = 0
    truth[(truth == 2) & (np.indices(SHAPE)[1] > 4)] = 4  # the second value of the myocardium
    truth[0, 0] = 9  # a value that the site does not name is background
    work = at_work(one_hot(labels, 4))
    found = case(tmp_path, truth)
    assert work.has_truth(Prepared(), found, "ED")
    assert not work.has_truth(Prepared("ES"), found, "ED")
    rows = work.compared(Prepared(), found, work.image(Prepared(), "ED"), "ED").scores()
    assert [(row.image, row.task) for row in rows] == [("ED", "LV"), ("ED", "MYO"), ("ED", "RV")]
    for row in rows:
        assert (row.metrics["dice"], row.metrics["hd95_mm"], row.metrics["volume_error_ml"]) == (1, 0, 0)
    ml = np.prod(np.linalg.norm(AFFINE[:3, :3], axis=0)) / 1000
    assert rows[0].details["true_volume_ml"] == pytest.approx(ml * (truth == 3).sum())


def test_classes_that_the_site_does_not_label_are_not_scored(tmp_path):
    own = Site(data=PhantomData(hospital="x"), labels={"LV": 1, "MYO": 2}, part_of={"infarct": "MYO"})
    labels = some_labels(5)
    truth = np.array([0, 1, 2, 0, 2])[np.transpose(labels, (1, 2, 0))]
    truth[0] = 0
    work = at_work(one_hot(labels, 5), (*OWN, "infarct"), own)
    rows = work.compared(Prepared(), case(tmp_path, truth), work.image(Prepared(), "ED"), "ED").scores()
    assert [(row.task, row.metrics["dice"]) for row in rows] == [("LV", 1.0), ("MYO", 1.0)]


def test_labels_on_another_grid_are_refused(tmp_path):
    work = at_work(one_hot(some_labels(), 4))
    found = case(tmp_path, np.zeros((12, 10, 5)))
    with pytest.raises(DataError, match=r"truth.nii.gz: is not on the grid of .*: 12×10×5 voxels"):
        work.compared(Prepared(), found, work.image(Prepared(), "ED"), "ED")


# --- example slices -----------------------------------------------------------------------------------


def test_slices_go_from_the_larger_end_to_the_smaller():
    truth = np.zeros((9, 9, 14), int)
    for z in range(2, 11):
        truth[: z - 1, 0, z] = 1
    assert shown_slices(truth) == [9, 6, 3]
    assert shown_slices(truth[..., ::-1]) == [4, 7, 10]
    assert shown_slices(truth[..., :4]) == [2, 3]
    assert shown_slices(np.zeros((4, 4, 7), int)) == [3]


def test_the_sides_are_those_of_the_axis_across():
    assert sides_of(np.array([1.0, 0.2, 0])) == ("R", "L")
    assert sides_of(np.array([0.5, 0.7, 0])) == ("A", "P")
    assert sides_of(np.array([0, 0.1, -1.0])) == ("I", "S")


def test_what_is_kept_for_the_report_can_be_read_there(tmp_path):
    from polysite.report.outlines import read_outlines

    labels = some_labels()
    work = at_work(one_hot(labels, 4))
    found = case(tmp_path, np.where(np.transpose(labels, (1, 2, 0)) == 2, 4, 0))
    work.compared(Prepared(), found, work.image(Prepared(), "ED"), "ED").write_example(
        tmp_path / "ivy" / "examples"
    )
    kept = read_outlines(tmp_path / "ivy" / "examples" / "ED.npz")
    assert (kept.site, kept.image_name, kept.subject, len(kept.places)) == ("ivy", "ED", "01", 3)
    assert kept.names == {3: "LV", 2: "MYO", 300: "RV"}
    assert set(np.unique(kept.truth)) == {0, 2}  # both values of a class are one here
    assert read_image(found.images["ED"]).array.max() >= kept.window[1]
