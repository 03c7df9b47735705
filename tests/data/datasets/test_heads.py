"""Public data sets of heads: IXI, BraTS, MIDAS and OASIS-3 as they lie on disk."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from folders import found, tree
from layouts import cases_of, found_in, reasons, visits_of, write_nifti

# --- IXI ----------------------------------------------------------------------------------------------


def test_ixi_has_its_site_in_the_file_name_and_skips_diffusion(tmp_path):
    tree(
        tmp_path,
        "IXI-T1/IXI002-Guys-0828-T1.nii.gz",
        "IXI-T2/IXI002-Guys-0828-T2.nii.gz",
        "IXI-PD/IXI002-Guys-0828-PD.nii.gz",
        "IXI-MRA/IXI012-HH-1211-MRA.nii.gz",
        "IXI-T1/IXI035-IOP-0873-T1.nii.gz",
        *(f"IXI-DTI/IXI002-Guys-0828-DTI-{n:02d}.nii.gz" for n in range(16)),
        "bvecs.txt",
    )
    found_here = found_in("ixi", tmp_path)
    assert [(visit.subject, visit.site, sorted(visit.images)) for visit in found_here.visits] == [
        ("IXI002", "Guys", ["PDw", "T1w", "T2w"]),
        ("IXI012", "HH", ["MRA"]),
        ("IXI035", "IOP", ["T1w"]),
    ]
    assert "16 × diffusion imaging" in reasons(found_here)
    (case,) = cases_of("ixi", tmp_path, "T1w", "T2w", where={"scanner": "Philips 1.5 T"})
    assert (case.key, list(case.images)) == ("sub-IXI002", ["T1w", "T2w"])


# --- BraTS --------------------------------------------------------------------------------------------

FOUR = ("t1", "t1ce", "t2", "flair")


def brats(folder: str, *kinds: str, suffix: str = ".nii.gz", between: str = "_") -> list[str]:
    """The files of a case."""
    case = folder.rsplit("/", 1)[-1]
    return [f"{folder}/{case}{between}{kind}{suffix}" for kind in kinds]


def test_brats_until_2019_names_institution_and_grade(tmp_path):
    tree(tmp_path, *brats("HGG/Brats18_CBICA_AAB_1", *FOUR, "seg"), *brats("LGG/BraTS19_2013_8_1", *FOUR))
    high, low = visits_of("brats", tmp_path).values()
    assert (high.subject, high.site, high.facts["grade"]) == ("BraTS19_2013_8_1", "2013", "LGG")
    assert (low.site, low.facts["grade"], low.facts["release"]) == ("CBICA", "HGG", "Brats18")
    assert list(low.images) == ["T1w", "T1ce", "T2w", "FLAIR"]
    assert set(low.labels.values()) == {tmp_path / "HGG/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_seg.nii.gz"}
    assert high.labels == {}


def test_brats_2020_takes_the_institution_from_its_table_and_finds_the_misnamed_mask(tmp_path):
    tree(
        tmp_path,
        *brats("BraTS20_Training_001", *FOUR, "seg", suffix=".nii"),
        *brats("BraTS20_Training_355", *FOUR, suffix=".nii"),
        "BraTS20_Training_355/W39_1998.09.19_Segm.nii",
        *brats("BraTS20_Training_369", *FOUR, "seg"),
    )
    (tmp_path / "name_mapping.csv").write_text(
        "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,"
        "BraTS_2020_subject_ID\n"
        "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001\n"
        "LGG,NA,Brats18_TCIA01_131_1,NA,NA,BraTS20_Training_355\n"
    )
    one, other, unlisted = visits_of("brats", tmp_path).values()
    assert [(visit.site, visit.value("grade")) for visit in (one, other, unlisted)] == [
        ("CBICA", "HGG"),
        ("TCIA01", "LGG"),
        ("unknown", ""),
    ]
    assert {path.name for path in other.labels.values()} == {"W39_1998.09.19_Segm.nii"}
    assert one.images["T1ce"].name == "BraTS20_Training_001_t1ce.nii"


@pytest.mark.parametrize("column", ["Subject_ID", "Subject"])
def test_fets_takes_the_institution_from_its_partitioning(tmp_path, column):
    tree(tmp_path, *brats("FeTS2022_00000", *FOUR, "seg"), *brats("FeTS2022_00002", *FOUR, "seg"))
    for number, parts in ((1, (1, 18)), (2, (1, 23))):
        rows = "".join(
            f"{part},{name}\n" for part, name in zip(parts, ("FeTS2022_00000", "FeTS2022_00002"), strict=True)
        )
        (tmp_path / f"partitioning_{number}.csv").write_text(f"Partition_ID,{column}\n{rows}")
    first, second = visits_of("brats", tmp_path).values()
    assert (first.site, second.site, second.facts["partition_2"]) == ("1", "18", "23")
    (case,) = cases_of("brats", tmp_path, "T1w", "T2w", where={"partition_2": "23"})
    assert case.subject == "FeTS202200002"


def test_brats_2023_has_time_points_other_words_and_another_value_for_et(tmp_path):
    from polysite.registry import lookup

    kinds = ("t1n", "t1c", "t2w", "t2f", "seg")
    for session in ("000", "001"):
        tree(tmp_path, *brats(f"BraTS-GLI-00005-{session}", *kinds, between="-"))
    tree(tmp_path, *brats("BraTS2021_00000", *FOUR, "seg"))
    cases = cases_of("brats2023", tmp_path, "T1w", "T1ce", "FLAIR")
    assert [case.key for case in cases] == ["sub-BraTSGLI00005_ses-000", "sub-BraTSGLI00005_ses-001"]
    assert cases[0].subject == cases[1].subject, "splits are by patient"
    assert found(cases, tmp_path)["sub-BraTSGLI00005_ses-001"]["FLAIR"].endswith("001-t2f.nii.gz")
    assert cases[0].labels["T1ce"].name == "BraTS-GLI-00005-000-seg.nii.gz"
    assert (lookup("datasets", "brats").labels["ET"], lookup("datasets", "brats2023").labels["ET"]) == (4, 3)
    assert "5 × names of BraTS before 2023, where ET is 4: `brats` reads" in reasons(
        found_in("brats2023", tmp_path)
    )
    assert "10 × names of BraTS 2023, where ET is 3: `brats2023` reads" in reasons(
        found_in("brats", tmp_path)
    )


# --- MIDAS --------------------------------------------------------------------------------------------


def test_midas_is_meta_image_with_a_hyphen_in_the_folder_alone(tmp_path):
    for name in ("Normal-001/Normal001-T1-Flash", "Normal-001/Normal001-T2", "Normal-004/Normal004-T2"):
        path = tmp_path / f"{name}.mha"
        path.parent.mkdir(exist_ok=True)
        image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(5, 4, 3))
        image.SetSpacing((1.0, 2.0, 3.0))
        sitk.WriteImage(image, str(path))
    tree(tmp_path, "Normal-001/Normal001-DTI.mha")
    whole, partial = cases_of("midas", tmp_path, "T1w", "T2w")
    assert (whole.key, list(whole.images), list(partial.images)) == ("sub-Normal001", ["T1w", "T2w"], ["T2w"])
    assert whole.image("T1w").spacing_mm == (1, 2, 3)
    assert "diffusion" in reasons(found_in("midas", tmp_path))
    assert [case.key for case in cases_of("midas", tmp_path, "T1w", "T2w", require=("T1w", "T2w"))] == [
        whole.key
    ]


# --- OASIS-3 ------------------------------------------------------------------------------------------

NAME = "sub-OAS30001_ses-d0129"
OASIS = {
    "script": "OAS30001_MR_d0129/anat{n}",
    "archive": "OAS30001_MR_d0129/scans/anat{n}-T1w/resources/{resource}/files",
    "BIDS": "sub-OAS30001/ses-d0129/anat",
}


@pytest.mark.parametrize("layout", OASIS)
def test_oasis_is_read_in_three_layouts(tmp_path, layout):
    image, sidecar = (OASIS[layout].format(n="{n}", resource=word) for word in ("NIFTI", "BIDS"))
    tree(
        tmp_path,
        f"{image.format(n=1)}/{NAME}_run-02_T1w.nii.gz",
        f"{image.format(n=2)}/{NAME}_run-01_T1w.nii.gz",
        f"{image.format(n=3)}/{NAME}_acq-TSE_T2w.nii.gz",
        f"{image.format(n=4)}/{NAME}_task-rest_bold.nii.gz",
        f"{sidecar.format(n=2)}/{NAME}_run-01_T1w.json",
        "0AS_data_files/MR_d0001/resources/csv/files/OASIS3_demographics.csv",
        f"0AS_data_files/{NAME}_T1w.nii.gz",
    )
    text = {"Manufacturer": "Siemens", "ManufacturersModelName": "TrioTim", "MagneticFieldStrength": 3}
    (tmp_path / sidecar.format(n=2) / f"{NAME}_run-01_T1w.json").write_text(json.dumps(text))
    found_here = found_in("oasis3", tmp_path)
    (visit,) = found_here.visits
    assert (visit.subject, visit.session, visit.site) == ("OAS30001", "d0129", "TrioTim")
    assert {name: path.name for name, path in visit.images.items()} == {
        "T1w": f"{NAME}_run-01_T1w.nii.gz",
        "T2w": f"{NAME}_acq-TSE_T2w.nii.gz",
    }
    assert any("run-02" in note for note in visit.notes)
    assert visit.facts["field"] == "3"
    assert "2 × spreadsheets, not a person" in reasons(found_here)


def test_a_person_of_oasis_is_at_the_site_of_the_first_session(tmp_path):
    for session, text in (
        ("d0129", "{damaged"),
        ("d0800", '{"ManufacturersModelName": "TrioTim"}'),
        ("d2000", '{"ManufacturersModelName": "Biograph_mMR"}'),
    ):
        name = f"OAS30001_MR_{session}/anat1/sub-OAS30001_ses-{session}_T1w"
        tree(tmp_path, f"{name}.nii.gz")
        (tmp_path / f"{name}.json").write_text(text)
    tree(tmp_path, "OAS30002_MR_d0653/anat2/sub-OAS30002_ses-d0653_T1w.nii.gz")
    visits = visits_of("oasis3", tmp_path)
    assert [visit.site for visit in visits.values()] == ["TrioTim"] * 3 + ["unknown"]
    assert [visit.value("scanner") for visit in visits.values()] == ["", "TrioTim", "Biograph_mMR", ""]
    (case,) = cases_of("oasis3", tmp_path, "T1w", where={"site": "TrioTim", "scanner": "TrioTim"})
    assert case.key == "sub-OAS30001_ses-d0800"


def test_a_gzip_file_that_lies_about_its_length_is_named(tmp_path):
    from polysite.errors import DataError

    path = tmp_path / "IXI-T1/IXI002-Guys-0828-T1.nii.gz"
    write_nifti(path, np.ones((4, 5, 6), np.float32))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + (12).to_bytes(4, "little"))
    (case,) = cases_of("ixi", tmp_path, "T1w")
    with pytest.raises(DataError, match=r"IXI002-Guys-0828-T1\.nii\.gz: unreadable or cut short"):
        case.image("T1w")
