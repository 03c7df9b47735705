"""Readers find label images where the data section says they are, in the layouts of public data sets."""

from pathlib import Path

import numpy as np
import pytest

from folders import found, tree
from heart_files import short_axis, write_heart
from polysite.config.prepare import Prepare
from polysite.config.sources import BidsData, FilesData, TableData
from polysite.data import bids, files, table
from polysite.data.prepare import prepare_case
from polysite.errors import DataError
from polysite.image import Image, read_image, write_image

# --- BIDS ---------------------------------------------------------------------------------------------

CINE = {"ED": "rec-ED_cine", "ES": "rec-ES_cine"}


def hearts(root: Path, **over: object) -> list:
    data = BidsData(path=root, **{"contrasts": CINE, "label_images": "derivatives/manual", **over})
    return bids.read_cases("north", data, ("ED", "ES", "LGE"))


def test_a_label_image_has_its_images_entities(tmp_path):
    manual = "derivatives/manual/sub-01/anat/sub-01"
    tree(tmp_path, *(f"sub-01/anat/sub-01_{end}.nii.gz" for end in ("rec-ED_cine", "rec-ES_cine", "LGE")))
    tree(
        tmp_path,
        *(f"{manual}_{end}.nii.gz" for end in ("rec-ED_dseg", "rec-ED_desc-clean_cine", "rec-XX_dseg")),
        f"{manual}_dseg.nii.gz",
        f"{manual}_rec-ED_dseg.json",
    )
    cases = hearts(tmp_path)
    assert found(cases, tmp_path, "labels") == {
        "sub-01": {"ED": f"{manual}_rec-ED_dseg.nii.gz", "LGE": f"{manual}_dseg.nii.gz"}
    }
    assert list(cases[0].images) == ["ED", "ES", "LGE"]


def test_of_several_the_plain_one_is_taken_and_the_rest_told(tmp_path):
    manual = "derivatives/manual/sub-01/ses-a/anat/sub-01_ses-a"
    tree(tmp_path, "sub-01/ses-a/anat/sub-01_ses-a_LGE.nii.gz", f"{manual}_desc-b_dseg.nii.gz")
    assert found(hearts(tmp_path), tmp_path, "labels") == {
        "sub-01_ses-a": {"LGE": f"{manual}_desc-b_dseg.nii.gz"}
    }
    tree(tmp_path, f"{manual}_desc-a_dseg.nii.gz", f"{manual}_dseg.nii.gz")
    (case,) = hearts(tmp_path)
    assert case.labels["LGE"].name == "sub-01_ses-a_dseg.nii.gz"
    assert [note.split(" was")[0] for note in case.notes] == [
        f"sub-01_ses-a_desc-{x}_dseg.nii.gz" for x in "ab"
    ]


def test_masks_of_another_ending_serve_every_image_with_their_entities(tmp_path):
    tree(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_ce-gd_T1w.nii.gz")
    mask = "lesions/sub-01/anat/sub-01_label-lesion_mask.nii.gz"
    tree(tmp_path, mask)
    elsewhere = tmp_path / "lesions"
    data = BidsData(path=tmp_path, label_images=elsewhere, label_ending="label-lesion_mask")
    assert found(bids.read_cases("north", data, ("T1w",)), tmp_path, "labels") == {"sub-01": {"T1w": mask}}


def test_a_missing_derivative_is_named(tmp_path):
    tree(tmp_path, "sub-01/anat/sub-01_LGE.nii.gz")
    with pytest.raises(DataError, match=r"derivatives/manual: no such folder; .*north\.data\.label_images"):
        hearts(tmp_path)


# --- tables -------------------------------------------------------------------------------------------


def rows(root: Path, text: str, **over: object) -> list:
    (root / "cases.csv").write_text(text)
    data = TableData(**{"format": "table", "path": root / "cases.csv", **over})
    return table.read_cases("north", data, ("cine", "ED", "ES"))


def test_a_column_tells_the_rows_of_a_subject_apart(tmp_path):
    text = "case,subject,cine,label\np1_f01,p1,a.nii,a_gt.nii\np1_f12,p1,b.nii,\n"
    cases = rows(tmp_path, text, session="case", label_images={"cine": "label"})
    assert found(cases, tmp_path, "labels") == {
        "sub-p1_ses-p1f01": {"cine": "a_gt.nii"},
        "sub-p1_ses-p1f12": {},
    }
    with pytest.raises(DataError, match="no column 'visit'; it has case, subject"):
        rows(tmp_path, text, session="visit")
    with pytest.raises(DataError, match="no column 'truth'"):
        rows(tmp_path, text, label_images={"cine": "truth"})


MNMS = """,External code,VendorName,Vendor,Centre,ED,ES
0,A0S9V9,Siemens,A,1,0,2
1,B1C2D3,Philips,B,2,1,0
2,E4F5G6,Siemens,A,1,2,0
"""


def mnms(root: Path, **over: object) -> list:
    image, label = (f"*/**/{{External code}}_sa{end}.nii.gz" for end in ("", "_gt"))
    names = ("ED", "ES")
    given = {
        "subject": "External code",
        "contrasts": dict.fromkeys(names, image),
        "label_images": dict.fromkeys(names, label),
        "frames": {"ED": "ED", "ES": "ES"},
        "where": {"Centre": "1"},
    }
    return rows(root, MNMS, **{**given, **over})


def test_frames_of_4_d_files_as_in_mnms(tmp_path):
    first, last = "Training/Labeled/A0S9V9/A0S9V9_sa", "Testing/E4F5G6/E4F5G6_sa"
    tree(tmp_path, f"{last}.nii.gz", f"{last}_gt.nii.gz")
    case = write_heart(tmp_path / "made", names=("ED",))
    for name, source in ((first, case.images["ED"]), (f"{first}_gt", case.labels["ED"])):
        image = read_image(source)
        frames = np.stack([image.array, 0 * image.array, np.flip(image.array, 0)], axis=3)
        write_image(image.with_array(frames), tmp_path / f"{name}.nii.gz", dtype="float64")
    one, other = mnms(tmp_path)
    assert (one.frames, other.frames) == ({"ED": 0, "ES": 2}, {"ED": 2, "ES": 0})
    assert one.images["ED"] == one.images["ES"] == tmp_path / f"{first}.nii.gz"
    assert other.labels["ES"] == tmp_path / f"{last}_gt.nii.gz"
    ed, es = (prepare_case(part, Prepare(), tmp_path / "cache") for part in one.parts())
    assert (ed.key, es.key) == ("sub-A0S9V9_ED", "sub-A0S9V9_ES")
    np.testing.assert_array_equal(np.flip(ed.labels(), 1), es.labels())


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"first_frame": 1}, "row 2 has '0' in 'ED'; a frame is a whole number from 1"),
        ({"frames": {"ED": "VendorName"}}, "row 2 has 'Siemens' in 'VendorName'"),
        ({"frames": {"ED": "Diastole"}}, "no column 'Diastole'"),
        ({"contrasts": {"ED": "{Code}_sa.nii.gz"}}, "no column 'Code'"),
        ({"contrasts": {"ED": "**/{External code}_sa*.nii.gz"}}, "both fit"),
    ],
)
def test_what_a_table_cannot_give_is_said(tmp_path, over, message):
    tree(tmp_path, "Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz", "Training/Labeled/A0S9V9/A0S9V9_sa_gt.nii.gz")
    with pytest.raises(DataError, match=message):
        mnms(tmp_path, **over)


def test_a_file_that_nothing_fits_is_a_missing_one(tmp_path):
    tree(tmp_path, "Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz")
    (case,) = mnms(tmp_path)
    assert (case.subject, case.labels) == ("A0S9V9", {})


# --- patterns -----------------------------------------------------------------------------------------

LAYOUTS = {
    "EMIDEC": (
        {
            "pattern": "Case_{subject}/Images/Case_{subject}.nii.gz",
            "label_images": "Case_{subject}/Contours/Case_{subject}.nii.gz",
            "contrasts": {"LGE": "LGE"},
        },
        ["Case_N006/Images/Case_N006.nii.gz", "Case_N006/Contours/Case_N006.nii.gz", "Case N006.txt"],
        {"sub-N006": {"LGE": "Case_N006/Contours/Case_N006.nii.gz"}},
    ),
    "ACDC": (
        {
            "pattern": "training/{subject}/{subject}_frame{session}.nii.gz",
            "label_images": "training/{subject}/{subject}_frame{session}_gt.nii.gz",
            "contrasts": {"cine": "cine"},
        },
        [f"training/patient001/patient001_{end}" for end in ("frame01.nii.gz", "frame01_gt.nii.gz", "frame12.nii.gz",
         "frame12_gt.nii.gz", "4d.nii.gz")],
        {
            f"sub-patient001_ses-{n}": {"cine": f"training/patient001/patient001_frame{n}_gt.nii.gz"}
            for n in ("01", "12")
        },
    ),
    "M&Ms-2": (
        {
            "pattern": "dataset/{subject}/{subject}_SA_{contrast}.nii.gz",
            "label_images": "dataset/{subject}/{subject}_SA_{contrast}_gt.nii.gz",
        },
        [f"dataset/001/001_{end}" for end in ("SA_ED.nii.gz", "SA_ED_gt.nii.gz", "SA_ES.nii.gz", "SA_ES_gt.nii.gz",
         "SA_CINE.nii.gz", "LA_ED.nii.gz")],
        {"sub-001": {c: f"dataset/001/001_SA_{c}_gt.nii.gz" for c in ("ED", "ES")}},
    ),
    "BraTS 2020": (
        {
            "pattern": "B_{subject}/B_{subject}_{contrast}.nii.gz",
            "label_images": "B_{subject}/B_{subject}_seg.nii.gz",
            "contrasts": {"T1w": "t1", "FLAIR": "flair"},
        },
        [f"B_001/B_001_{end}.nii.gz" for end in ("t1", "flair", "seg")],
        {"sub-001": dict.fromkeys(("T1w", "FLAIR"), "B_001/B_001_seg.nii.gz")},
    ),
}  # fmt: skip
ALL = ("ED", "ES", "LGE", "cine", "T1w", "FLAIR")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pattern_reads_a_public_layout(tmp_path, layout):
    given, names, expected = LAYOUTS[layout]
    tree(tmp_path, *names)
    cases = files.read_cases("north", FilesData(format="files", path=tmp_path, **given), ALL)
    assert found(cases, tmp_path, "labels") == expected
    for case in cases:
        assert list(case.images) == list(case.labels), "a label image is no image"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"pattern": "{subject}.nii"},
            r"pattern: '\{subject\}\.nii' has no \{contrast\}; add it, or name the one",
        ),
        (
            {"pattern": "{subject}_{contrast}.nii", "label_images": "gt.nii"},
            r"label_images: 'gt\.nii' has no",
        ),
        (
            {"pattern": "a/{subject}_{contrast}.nii", "label_images": "*/{subject}_seg.nii"},
            r"label_images: .*a/01_seg\.nii and .*b/01_seg\.nii both fit ED of sub-01",
        ),
    ],
)
def test_a_pattern_that_is_not_clear_is_refused(tmp_path, given, message):
    tree(tmp_path, "a/01_ED.nii", "a/01_seg.nii", "b/01_seg.nii")
    with pytest.raises(DataError, match=message):
        files.read_cases("north", FilesData(format="files", path=tmp_path, **given), ALL)


def test_a_unit_scale_sform_as_in_emidec_is_mended_in_image_and_labels(tmp_path):
    import nibabel

    for folder in ("Images", "Contours"):
        values = np.zeros((24, 25, 7))
        values[8:16, 9:15, 2:5] = 1 if folder == "Contours" else 900
        values[8, 9, 2] = 0
        image = nibabel.Nifti1Image(values, np.diag([-1.0, -1, 1, 1]))
        image.header.set_zooms((1.40625, 1.40625, 13.0))
        path = tmp_path / "Case_N006" / folder / "Case_N006.nii.gz"
        path.parent.mkdir(parents=True)
        image.header["pixdim"][1:4] = (1.40625, 1.40625, 13.0)
        nibabel.save(image, path)
    given, *_ = LAYOUTS["EMIDEC"]
    (case,) = files.read_cases("north", FilesData(format="files", path=tmp_path, **given), ALL)
    prepared = prepare_case(case.parts()[0], Prepare(), tmp_path / "cache")
    np.testing.assert_allclose(prepared.grid.spacing_mm, (1.25, 1.25, 13))
    assert set(np.unique(prepared.labels())) == {0, 1}


def test_both_goals_may_read_one_data_section(tmp_path):
    """Label images are an addition: without them the same images are found."""
    case = write_heart(tmp_path, affine=short_axis())
    image = Image(read_image(case.images["ED"]).array, short_axis())
    write_image(image, tmp_path / "sub-01/anat/sub-01_ED.nii.gz")
    (plain,) = bids.read_cases("north", BidsData(path=tmp_path), ("ED",))
    (more,) = bids.read_cases("north", BidsData(path=tmp_path, label_images="labels"), ("ED",))
    assert (plain.images, plain.labels) == (more.images, more.labels)
