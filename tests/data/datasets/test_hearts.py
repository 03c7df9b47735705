"""Public data sets of hearts: ACDC, M&Ms, M&Ms-2 and EMIDEC as they lie on disk."""

import numpy as np
import pytest

from folders import found, tree
from layouts import acdc, cases_of, found_in, heart_of, mnms, reasons, visits_of, write_nifti
from polysite.config.prepare import Prepare
from polysite.data.prepare import prepare_case
from polysite.errors import DataError
from polysite.registry import lookup

UNIT = np.diag([-1.0, -1, 1, 1])
"""The sform of ACDC and EMIDEC: directions without a scale."""


def blocks(shape: tuple[int, ...] = (24, 26, 6)) -> np.ndarray:
    """Labels 1, 2 and 3 side by side."""
    values = np.zeros(shape)
    for value in (1, 2, 3):
        values[4 + 4 * value : 8 + 4 * value, 8:18, 1:5] = value
    return values


def test_values_differ_between_data_sets():
    values = {name: lookup("datasets", name).labels for name in ("acdc", "mnms", "mnms2", "emidec")}
    assert values["mnms"] == values["mnms2"] == {"LV": 1, "MYO": 2, "RV": 3}
    assert values["acdc"] == {"RV": 1, "MYO": 2, "LV": 3}
    assert values["emidec"] == {"LV": 1, "MYO": 2, "infarct": 3, "no-reflow": 4}


# --- ACDC ---------------------------------------------------------------------------------------------


def test_acdc_has_two_images_of_one_visit_by_its_info(tmp_path):
    acdc(tmp_path / "training")
    acdc(tmp_path / "training", "patient090", es=3, group="RV")
    tree(tmp_path, "training/patient090/patient090_frame11.nii.gz")
    info = tmp_path / "training/patient090/Info.cfg"
    info.write_text(info.read_text().replace("ED: 1", "ED: 11"))
    acdc(tmp_path / "testing", "patient101", es=14, group="NOR")
    cases = cases_of("acdc", tmp_path, "ED", "ES")
    images = found(cases, tmp_path)
    assert list(images) == ["sub-patient001", "sub-patient090", "sub-patient101"]
    assert images["sub-patient090"] == {
        "ED": "training/patient090/patient090_frame11.nii.gz",
        "ES": "training/patient090/patient090_frame03.nii.gz",
    }
    assert found(cases, tmp_path, "labels")["sub-patient001"]["ES"].endswith("frame12_gt.nii.gz")
    assert [part.key for part in cases[0].parts()] == ["sub-patient001_ED", "sub-patient001_ES"]
    (case,) = cases_of("acdc", tmp_path, "ED", "ES", where={"group": "NOR"})
    assert case.subject == "patient101"
    assert len(cases_of("acdc", tmp_path, "ED", "ES", where={"set": "training"})) == 2


def test_acdc_without_its_info_is_read_where_that_is_safe(tmp_path):
    acdc(tmp_path, info=False)
    acdc(tmp_path, "patient002", es=9, info=False)
    (tmp_path / "patient002/patient002_frame01.nii.gz").rename(
        tmp_path / "patient002/patient002_frame04.nii.gz"
    )
    found_here = found_in("acdc", tmp_path)
    (visit,) = found_here.visits
    assert visit.images["ES"].name == "patient001_frame12.nii.gz"
    assert visit.notes == ("Info.cfg is missing: frame 01 was taken for ED and frame 12 for ES",)
    assert "patient002: Info.cfg is missing or does not say" in reasons(found_here)


@pytest.mark.parametrize("name", ["acdc", "emidec"])
def test_a_unit_scale_sform_is_mended_in_image_and_labels(tmp_path, name):
    files = {
        "acdc": ("patient001/patient001_frame01", "patient001/patient001_frame01_gt"),
        "emidec": ("Case_N006/Images/Case_N006", "Case_N006/Contours/Case_N006"),
    }[name]
    for file, gain in zip(files, (300, 1), strict=True):
        write_nifti(tmp_path / f"{file}.nii.gz", gain * blocks(), UNIT, (1.5, 1.5, 9.0))
    (tmp_path / "patient001").mkdir(exist_ok=True)
    (tmp_path / "patient001/Info.cfg").write_text("ED: 1\nES: 12\n")
    (case,) = cases_of(name, tmp_path, {"acdc": "ED", "emidec": "LGE"}[name])
    prepared = prepare_case(case.parts()[0], Prepare(), tmp_path / "cache")
    np.testing.assert_allclose(prepared.grid.spacing_mm, (1.25, 1.25, 9))
    assert set(np.unique(prepared.labels())) == {0, 1, 2, 3}


# --- M&Ms ---------------------------------------------------------------------------------------------


def test_mnms_has_frames_from_0_numeric_centres_and_labels_in_any_split(tmp_path):
    mnms(
        tmp_path,
        "A0S9V9,Siemens,A,1,9,2,55,HCM,F,,",
        "J9L6N9,Philips,B,2.0,0.0,1.0,60,NOR,M,180,80",
        "E4F5G6,GE,C,4,0,0,,,,,",
        "H7I8J9,GE,C,4,3,5,,,,,",
        "K1L2M3,Canon,D,5,0,7,,,,,",
        "N4O5P6,Canon,D,5,zero,7,,,,,",
    )
    (tmp_path / "MnMs").mkdir()
    tree(
        tmp_path,
        *heart_of("Training/Labeled", "A0S9V9"),
        heart_of("Training/Labeled", "J9L6N9")[0],
        heart_of("Testing", "J9L6N9")[1],
        *heart_of("Validation", "E4F5G6"),
        *heart_of("Training/Unlabeled", "H7I8J9"),
        heart_of("Testing", "N4O5P6")[0],
        heart_of("Testing", "Q7R8S9")[0],
    )
    found_here = found_in("mnms", tmp_path)
    first, second = found_here.visits
    assert (first.site, dict(first.frames), first.facts["vendor"]) == ("1", {"ED": 9, "ES": 2}, "A")
    assert (second.site, dict(second.frames), second.facts["set"]) == ("2", {"ED": 0, "ES": 1}, "training")
    assert set(second.labels.values()) == {tmp_path / heart_of("Testing", "J9L6N9")[1]}
    told = reasons(found_here)
    for code, why in {
        "E4F5G6": "is one of the unlabelled scans",
        "H7I8J9": "is one of the unlabelled scans",
        "K1L2M3": "has a row in the table and no image",
        "N4O5P6": "its frames are ED 'zero'",
        "Q7R8S9": "is not in 211230_M&Ms_",
    }.items():
        assert f"{code}: {why}" in told or f"{code} {why}" in told
    (case,) = cases_of("mnms", tmp_path, "ED", "ES", where={"site": "1", "pathology": "HCM"})
    assert "5 things" in case.notes[0]
    assert "polysite datasets mnms" in case.notes[0]


def test_mnms_frames_and_float_labels_of_a_skewed_4_d_file(tmp_path):
    """Directions that are not quite orthogonal, labels stored as float64: both go through nibabel."""
    mnms(tmp_path, "A0S9V9,Siemens,A,1,0,2,,,,,")
    skewed = np.array([[1.4, 0.02, 0, -20], [0, 1.4, 0.3, 3], [0, -0.05, 9, 7], [0, 0, 0, 1.0]])
    labels = np.stack([blocks(), np.zeros((24, 26, 6)), np.flip(blocks(), 0)], axis=3)
    for path, gain in zip(heart_of("Training/Labeled", "A0S9V9"), (300, 1), strict=True):
        write_nifti(tmp_path / path, gain * labels, skewed)
    (case,) = cases_of("mnms", tmp_path, "ED", "ES")
    ed, es = (part.label_image(name) for part, name in zip(case.parts(), ("ED", "ES"), strict=True))
    np.testing.assert_array_equal(ed.array, blocks())
    np.testing.assert_array_equal(es.array, np.flip(blocks(), 0))
    np.testing.assert_allclose(case.image("ED").affine, skewed, rtol=1e-6)
    prepared = prepare_case(case.parts()[1], Prepare(), tmp_path / "cache")
    assert set(np.unique(prepared.labels())) == {0, 1, 2, 3}


def test_mnms_without_a_csv_table_says_what_to_do(tmp_path):
    tree(tmp_path, heart_of("Training-corrected/Labeled", "A0S9V9")[0])
    with pytest.raises(DataError, match=r"no table of M&Ms: .*External code, Centre, ED, ES"):
        found_in("mnms", tmp_path)
    tree(tmp_path, "M&Ms Dataset Information.xlsx")
    with pytest.raises(DataError, match=r"Information\.xlsx: .*Excel is not read; save it as CSV"):
        found_in("mnms", tmp_path)


def test_mnms_of_the_old_release_with_its_table_saved_as_csv(tmp_path):
    tree(tmp_path, *heart_of("Training-corrected/Labeled", "A0S9V9"), "empty.csv")
    (tmp_path / "another.csv").write_bytes(b"Patient\xe9,Centre\n\xff")
    (tmp_path / "table.csv").write_text("External code,Vendor,Centre,ED,ES\nA0S9V9,A,1,3,9\n")
    (visit,) = found_in("mnms", tmp_path).visits
    assert (visit.frames["ES"], visit.facts["set"]) == (9, "training")


# --- M&Ms-2 -------------------------------------------------------------------------------------------


def test_mnms2_has_vendors_empty_rows_and_padded_folders(tmp_path):
    ends = ("SA_ED", "SA_ED_gt", "SA_ES", "SA_ES_gt", "SA_CINE", "LA_ED", "LA_ED_gt")
    tree(tmp_path, *(f"dataset/001/001_{end}.nii.gz" for end in ends))
    tree(tmp_path, *(f"dataset/201/201_{end}.nii.gz" for end in ("ED", "ED_gt", "ES", "ES_gt")))
    tree(tmp_path, "dataset/360/360_SA_ED.nii.gz")
    (tmp_path / "dataset_information.csv").write_text(
        "SUBJECT_CODE,DISEASE,VENDOR,SCANNER,FIELD\n1,NOR,SIEMENS,Avanto,1.5\n"
        "201,TRI,Philips Medical Systems,Achieva,1.5\n7,LV,SIEMENS,Avanto,1.5\n,,,,\n,,,,\n"
    )
    found_here = found_in("mnms2", tmp_path)
    one, other = found_here.visits
    assert (one.subject, one.site, one.facts["set"], one.facts["disease"]) == (
        "001",
        "SIEMENS",
        "training",
        "NOR",
    )
    assert {name: path.name for name, path in one.labels.items()} == {
        "ED": "001_SA_ED_gt.nii.gz",
        "ES": "001_SA_ES_gt.nii.gz",
    }
    assert (other.site, other.images["ES"].name) == ("Philips Medical Systems", "201_ES.nii.gz")
    assert "subject '7' has no image" in reasons(found_here)
    assert "360_SA_ED.nii.gz: is not in dataset_information.csv" in reasons(found_here)
    (case,) = cases_of("mnms2", tmp_path, "ED", where={"site": "Philips Medical Systems"})
    assert case.key == "sub-201"
    with pytest.raises(DataError, match=r"no table of M&Ms-2: dataset_information\.csv"):
        found_in("mnms2", tmp_path / "dataset")


# --- EMIDEC -------------------------------------------------------------------------------------------


def test_emidec_has_a_space_in_one_name_and_a_dagger_in_its_text(tmp_path):
    tree(
        tmp_path, *(f"Case_{c}/{f}/Case_{c}.nii.gz" for c in ("N006", "P012") for f in ("Images", "Contours"))
    )
    tree(tmp_path, "emidec-segmentation-testset-1.0.0/Case_P101/Images/Case_P101.nii.gz", "Readme.txt")
    (tmp_path / "Case N006.txt").write_bytes(b"Gap between slices\x86 : 2 \nSex\x86 : F \nAge : 57 \n\n")
    (tmp_path / "Case_P012.txt").write_bytes(b"Sex\x86 : M\nECG (ST +) : Yes\n")
    normal, ill, test = visits_of("emidec", tmp_path).values()
    assert dict(normal.facts) == {"group": "normal", "gap_between_slices": "2", "sex": "F", "age": "57"}
    assert dict(ill.facts) == {"group": "pathological", "sex": "M", "ecg_st": "Yes"}
    assert normal.labels["LGE"] == tmp_path / "Case_N006/Contours/Case_N006.nii.gz"
    assert (test.subject, test.labels) == ("P101", {})
    (case,) = cases_of("emidec", tmp_path, "LGE", where={"sex": "M"})
    assert case.key == "sub-P012"
