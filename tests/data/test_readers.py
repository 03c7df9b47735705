"""Readers find what a layout holds, pick the plain file, and say what they looked for."""

import pytest

from folders import found, tree
from polysite.config.sources import BidsData, FilesData, TableData
from polysite.data import bids, files, table
from polysite.data.case import label_of
from polysite.errors import DataError

CONTRASTS = ("T1w", "T2w", "FLAIR")


# --- BIDS ---------------------------------------------------------------------------------------------


def test_the_plain_file_is_picked_and_the_rest_is_told(tmp_path):
    anat = "sub-01/anat/sub-01"
    tree(
        tmp_path,
        f"{anat}_T1w.nii.gz",
        f"{anat}_ce-gadolinium_T1w.nii.gz",
        f"{anat}_acq-TSE_run-1_T2w.nii.gz",
        f"{anat}_run-2_T2w.nii.gz",
        f"{anat}_run-1_T2w.nii.gz",
        f"{anat}_T1w.json",
    )
    (case,) = bids.read_cases("north", BidsData(path=tmp_path), CONTRASTS)
    assert found([case], tmp_path) == {
        "sub-01": {"T1w": f"{anat}_T1w.nii.gz", "T2w": f"{anat}_run-1_T2w.nii.gz"}
    }
    assert len(case.notes) == 3
    assert any("ce-gadolinium" in note for note in case.notes)


def test_an_image_with_contrast_agent_is_taken_only_when_named(tmp_path):
    name = "sub-01/anat/sub-01_ce-gadolinium_T1w.nii.gz"
    tree(tmp_path, name, "sub-01/anat/sub-01_T2w.nii")
    (plain,) = bids.read_cases("north", BidsData(path=tmp_path), CONTRASTS)
    assert list(plain.images) == ["T2w"]
    assert "contrast agent" in plain.notes[0]
    named = BidsData(path=tmp_path, contrasts={"T1w": "ce-gadolinium_T1w"})
    (case,) = bids.read_cases("north", named, CONTRASTS)
    assert case.images["T1w"] == tmp_path / name


def test_sessions_are_cases_of_one_subject(tmp_path):
    tree(tmp_path, *[f"sub-02/ses-{s}/anat/sub-02_ses-{s}_T1w.nii.gz" for s in "ab"])
    tree(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-03/func/sub-03_bold.nii.gz")
    cases = bids.read_cases("north", BidsData(path=tmp_path), CONTRASTS)
    assert [case.key for case in cases] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    assert [case.subject for case in cases] == ["01", "02", "02"]


def test_where_keeps_the_subjects_with_a_value(tmp_path):
    tree(tmp_path, *[f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in ("01", "02", "03")])
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-01\ta\nsub-02\tb\nsub-03\ta\n")
    cases = bids.read_cases("north", BidsData(path=tmp_path, where={"site": "a"}), CONTRASTS)
    assert [case.subject for case in cases] == ["01", "03"]
    with pytest.raises(DataError, match=r"participants\.tsv: no participant has site=c"):
        bids.read_cases("north", BidsData(path=tmp_path, where={"site": "c"}), CONTRASTS)
    with pytest.raises(DataError, match=r"no column 'centre'.*participant_id, site"):
        bids.read_cases("north", BidsData(path=tmp_path, where={"centre": "a"}), CONTRASTS)


def test_an_empty_or_missing_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"\*_FLAIR\.nii\.gz in sub-\*/anat"):
        bids.read_cases("north", BidsData(path=tmp_path), CONTRASTS)
    with pytest.raises(DataError, match=r"gone: no such folder; correct sites\.north\.data\.path"):
        bids.read_cases("north", BidsData(path=tmp_path / "gone"), CONTRASTS)


# --- tables -------------------------------------------------------------------------------------------


def test_a_table_gives_a_case_a_row(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text(
        "subject,session,T1w,second,site\np-2,,b1.nii,b2.nii,x\np-1,m06,a1.nii,,x\n,,,,\np-3,,c.nii,,y\n"
    )
    data = TableData(format="table", path=path, contrasts={"T2w": "second"}, where={"site": "x"})
    cases = table.read_cases("north", data, CONTRASTS)
    assert found(cases, tmp_path) == {
        "sub-p1_ses-m06": {"T1w": "a1.nii"},
        "sub-p2": {"T1w": "b1.nii", "T2w": "b2.nii"},
    }


def test_a_subject_in_two_rows_gives_two_cases_for_the_check(tmp_path):
    (tmp_path / "cases.csv").write_text("subject,T1w\n1,a.nii\n1,b.nii\n")
    cases = table.read_cases("north", TableData(format="table", path=tmp_path / "cases.csv"), CONTRASTS)
    assert [case.key for case in cases] == ["sub-1", "sub-1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,T1w\na,a.nii\n", r"no column 'subject'; it has name, T1w"),
        ("subject,T1w\n,a.nii\n", r"row 2 names no subject"),
        ("subject,T1w\na,b.nii,c.nii\n", r"row 2 has more fields"),
        ("subject,PDw\na,b.nii\n", r"looked for rows that have a path in one of the columns T1w, T2w, FLAIR"),
    ],
)
def test_a_table_that_does_not_fit_says_why(tmp_path, text, message):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        table.read_cases("north", TableData(format="table", path=tmp_path / "cases.csv"), CONTRASTS)


# --- patterns -----------------------------------------------------------------------------------------

LAYOUTS = {
    "IXI": (
        "IXI-{contrast}/{subject}-Guys-{n}-{contrast}.nii.gz",
        {"T1w": "T1", "T2w": "T2", "PDw": "PD"},
        [
            "IXI-T1/IXI002-Guys-0828-T1.nii.gz",
            "IXI-T2/IXI002-Guys-0828-T2.nii.gz",
            "IXI-T1/IXI012-HH-1211-T1.nii.gz",
            "IXI-PD/IXI002-Guys-0828-T1.nii.gz",
        ],
        {
            "sub-IXI002": {
                "T1w": "IXI-T1/IXI002-Guys-0828-T1.nii.gz",
                "T2w": "IXI-T2/IXI002-Guys-0828-T2.nii.gz",
            }
        },
    ),
    "BraTS 2020": (
        "BraTS20_Training_{subject}/BraTS20_Training_{subject}_{contrast}.nii*",
        {"T1w": "t1", "T2w": "t2", "FLAIR": "flair"},
        [
            f"BraTS20_Training_001/BraTS20_Training_001_{c}.nii.gz"
            for c in ("t1", "t1ce", "t2", "flair", "seg")
        ],
        {
            "sub-001": {
                "T1w": "BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz",
                "T2w": "BraTS20_Training_001/BraTS20_Training_001_t2.nii.gz",
                "FLAIR": "BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz",
            }
        },
    ),
    "BraTS 2023, two time points of one patient": (
        "BraTS-GLI-{subject}-{session}/*-{contrast}.nii.gz",
        {"T1w": "t1n", "T2w": "t2w"},
        [f"BraTS-GLI-00005-{s}/BraTS-GLI-00005-{s}-t1n.nii.gz" for s in ("000", "001")],
        {
            f"sub-00005_ses-{s}": {"T1w": f"BraTS-GLI-00005-{s}/BraTS-GLI-00005-{s}-t1n.nii.gz"}
            for s in ("000", "001")
        },
    ),
    "MIDAS": (
        "Normal-{subject}/Normal{subject}-{contrast}.mha",
        {"T1w": "T1-Flash", "T2w": "T2"},
        ["Normal-001/Normal001-T1-Flash.mha", "Normal-001/Normal001-T2.mha", "Normal-002/Normal003-T2.mha"],
        {
            "sub-001": {
                "T1w": "Normal-001/Normal001-T1-Flash.mha",
                "T2w": "Normal-001/Normal001-T2.mha",
            }
        },
    ),
    "OASIS-3, two runs": (
        "{subject}_MR_{session}/anat{n}/sub-*_{contrast}.nii.gz",
        {},
        [
            "OAS30001_MR_d0129/anat1/sub-OAS30001_ses-d0129_run-02_T1w.nii.gz",
            "OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
            "OAS30001_MR_d0129/anat3/sub-OAS30001_ses-d0129_acq-TSE_T2w.nii.gz",
            "OAS30001_MR_d0129/anat4/sub-OAS30001_ses-d0129_T2star.nii.gz",
        ],
        {
            "sub-OAS30001_ses-d0129": {
                "T1w": "OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
                "T2w": "OAS30001_MR_d0129/anat3/sub-OAS30001_ses-d0129_acq-TSE_T2w.nii.gz",
            }
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pattern_reads_a_public_layout(tmp_path, layout):
    pattern, words, names, expected = LAYOUTS[layout]
    tree(tmp_path, *names)
    data = FilesData(format="files", path=tmp_path, pattern=pattern, contrasts=words)
    assert found(files.read_cases("north", data, (*CONTRASTS, "PDw")), tmp_path) == expected


def test_two_files_for_one_contrast_give_two_cases_for_the_check(tmp_path):
    tree(tmp_path, "a/01-T1w.nii", "b/01-T1w.nii", "a/01-T2w.nii")
    data = FilesData(format="files", path=tmp_path, pattern="{x}/{subject}-{contrast}.nii")
    cases = files.read_cases("north", data, CONTRASTS)
    assert [list(case.images) for case in cases] == [["T1w", "T2w"], ["T1w"]]
    assert {case.key for case in cases} == {"sub-01"}


def test_a_pattern_that_finds_nothing_or_names_nobody_says_so(tmp_path):
    with pytest.raises(DataError, match=r"looked for \{subject\}_\{contrast\}\.nii with contrast T1w or T2w"):
        files.read_cases(
            "north", FilesData(format="files", path=tmp_path, pattern="{subject}_{contrast}.nii"), CONTRASTS
        )
    with pytest.raises(DataError, match=r"'\*_\{contrast\}\.nii' has no \{subject\}"):
        files.read_cases(
            "north", FilesData(format="files", path=tmp_path, pattern="*_{contrast}.nii"), CONTRASTS
        )


def test_a_label_has_letters_and_digits_alone():
    assert label_of("sub-a_b.1") == "ab1"
    with pytest.raises(DataError, match="'sub--'"):
        label_of("sub--")
