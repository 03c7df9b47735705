"""``polysite datasets``: the list, a page, and what a folder holds with a run that fits it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from command import polysite, refused, well
from folders import tree
from layouts import MNMS_TABLE, heart_of, mnms, write_nifti
from polysite.registry import TABLES

NUMBER = iter(range(1, 1000))


def heart(path: Path) -> None:
    """A heart as image, or, by its name, as label image; of M&Ms two frames. No two are alike."""
    frames = []
    for _ in range(2):
        labels = np.zeros((24, 26, 6))
        for value in range(1, 5 if "Case" in path.name else 4):
            labels[3 * value : 3 * value + 3, 8:18, 1:5] = value
        labels.flat[next(NUMBER)] = 1  # far from the heart
        frames.append(labels if re.search("_gt|Contours", str(path)) else 100 * labels + next(NUMBER))
    write_nifti(path, np.stack(frames, axis=3) if "_sa" in path.name else frames[0])


def head(path: Path) -> None:
    write_nifti(path, np.random.default_rng(next(NUMBER)).integers(1, 99, (8, 9, 5)).astype(np.float32))


def meta(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(next(NUMBER)).integers(1, 99, (8, 9, 5)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))


CODES = ("A0S9V9", "B1C2D3", "E4F5G6")
TREES = {
    "acdc": (heart, "patient00{n}/patient00{n}_frame{e}.nii.gz", ("01", "01_gt", "05", "05_gt")),
    "brats": (head, "Brats18_CBICA{n}_1_1/Brats18_CBICA{n}_1_1_{e}.nii", ("t1", "t2")),
    "brats2023": (head, "BraTS-GLI-0000{n}-000/BraTS-GLI-0000{n}-000-{e}.nii.gz", ("t1n", "t2w")),
    "emidec": (heart, "Case_N00{n}/{e}/Case_N00{n}.nii.gz", ("Images", "Contours")),
    "ixi": (head, "IXI00{n}-Guys-0828-{e}.nii.gz", ("T1", "T2")),
    "midas": (meta, "Normal-00{n}/Normal00{n}-{e}.mha", ("T1-Flash", "T2")),
    "mnms": (heart, "Testing/{code}/{code}_{e}.nii.gz", ("sa", "sa_gt")),
    "mnms2": (heart, "dataset/00{n}/00{n}_SA_{e}.nii.gz", ("ED", "ED_gt", "ES", "ES_gt")),
    "oasis3": (head, "OAS3000{n}_MR_d0129/anat1/sub-OAS3000{n}_ses-d0129_{e}.nii.gz", ("T1w", "T2w")),
}
"""How the files are made, their names, and the last part of these."""


def made(name: str, root: Path) -> Path:
    """A folder of a data set, small and whole."""
    write, pattern, ends = TREES[name]
    for n, code in enumerate(CODES):
        for end in ends:
            write(root / pattern.format(n=n, code=code, e=end))
    if name == "ixi":
        head(root / "IXI012-HH-1211-T1.nii.gz")
    if name == "mnms":
        mnms(
            root,
            *(f"{code},X,{v},{n},0,1,,,,," for n, (code, v) in enumerate(zip(CODES, "ABB", strict=True), 1)),
        )
    if name == "mnms2":
        text = "SUBJECT_CODE,DISEASE,VENDOR\n0,NOR,SIEMENS\n1,NOR,SIEMENS\n2,NOR,GE MEDICAL SYSTEMS\n"
        (root / "dataset_information.csv").write_text(text)
    if name == "oasis3":
        (root / pattern.format(n=1, e="T1w").replace(".nii.gz", ".json")).write_text(
            json.dumps({"ManufacturersModelName": "TrioTim"})
        )
    return root


def test_the_list_names_every_data_set_and_what_it_expects():
    out = well("datasets")
    for name in TABLES["datasets"]:
        assert re.search(rf"^ {name} ", out, re.M)
    assert "IXI-T1/IXI002-Guys-0828-T1.nii.gz" in out
    assert MNMS_TABLE in out
    assert "LV MYO infarct no-reflow" in out


def test_a_name_alone_gives_its_page():
    out = well("datasets", "emidec")
    for words in ("# EMIDEC", "CC BY-NC-SA 4.0", "Case_N006/Contours", "infarct 3", "format: emidec"):
        assert words in out


@pytest.mark.parametrize("name", TREES)
def test_the_run_that_is_printed_is_accepted_by_the_check(name, tmp_path):
    root = made(name, tmp_path / "my data")
    out = well("datasets", name, root)
    assert "Licence: " in out
    run = tmp_path / "run.yaml"
    run.write_text(out[out.index("\nname: ") :])
    done = polysite("check", run, "--set", f"cache={tmp_path / 'cache'}")
    assert done.status == 0, done.out
    assert " 0 errors" in done.out
    assert "Cite: " in done.out


def test_what_was_found_is_told_by_site_with_facts_and_what_was_skipped(tmp_path):
    root = made("mnms", tmp_path)
    tree(root, *heart_of("Training/Unlabeled", "H7I8J9"))
    out = well("datasets", "mnms", root)
    assert re.search(r"^ 1 +1 +1 +1 +1 +2 *$", out, re.M), "site, subjects, visits, ED, ES, labelled"
    assert re.search(r"^ vendor +B \(2\), A \(1\)", out, re.M)
    assert re.search(r"H7I8J9_sa.nii.gz +H7I8J9 is not in", out)
    assert "where: {site: '1'}" in out


def test_a_relative_folder_is_named_in_full(tmp_path, monkeypatch):
    made("ixi", tmp_path / "IXI")
    monkeypatch.chdir(tmp_path)
    assert f"path: {tmp_path / 'IXI'}, where: {{site: Guys}}, require: [T1w, T2w]" in well(
        "datasets", "ixi", "IXI"
    )


def test_files_that_cannot_be_paired_get_no_run_but_a_reason(tmp_path):
    tree(tmp_path, "multicoil_val/file_brain_AXT2_200_2000002.h5")
    out = well("datasets", "fastmri", tmp_path)
    assert "No run can be trained on these files alone" in out
    assert "name: fastmri" not in out


def test_nothing_found_and_wrong_names_are_told(tmp_path):
    refused("datasets", "ixi", tmp_path, says=["nothing of ixi found; expected", "IXI-T1/IXI002"], status=1)
    refused("datasets", "ixi", tmp_path / "gone", says=["gone: no such folder"], status=1)
    refused("datasets", "ixxi", says=["'ixxi'", "did you mean 'ixi'"], status=2)
    refused("datasets", "mnms", tmp_path, says=["no table of M&Ms"], status=1)
    refused("datasets", "ixi", "${NOT_SET_AT_ALL}", says=["NOT_SET_AT_ALL"], status=2)
