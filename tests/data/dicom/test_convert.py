"""Chosen series as a BIDS folder: the right ones, once, under labels that tell nothing."""

import hashlib
import json
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from dicom_files import lps, ras, values, write_enhanced, write_series
from polysite.config.sources import DicomData
from polysite.data.dicom.convert import convert
from polysite.data.dicom.pseudonym import LENGTH, Pseudonyms, read_key, read_secret
from polysite.errors import DataError
from polysite.image import read_image

PATTERNS = {"T1w": "*t1*", "T2w": ["*t2*", "!*gd*"]}


def data(folder, **over):
    return DicomData(**{"path": folder, "contrasts": PATTERNS, **over})


def volumes(converted):
    return sorted(path.name.split("_")[-1] for path in converted.folder.rglob("*.nii.gz"))


def every_note(converted):
    return " | ".join(note for notes in converted.notes.values() for note in notes)


@pytest.fixture
def pacs(tmp_path):
    """Two patients with a T1 and a T2."""
    folder = tmp_path / "pacs"
    for n in (1, 2):
        for contrast in ("T1", "T2"):
            write_series(
                folder / f"p{n}" / contrast,
                values() + n,
                person=f"P{n}",
                study=f"1.2.{n}",
                description=f"{contrast}_ax",
            )
    return folder


def test_volumes_lie_where_the_slices_did_and_say_what_may_be_said(pacs, tmp_path):
    converted = convert(data(pacs), tmp_path / "cache")
    assert volumes(converted) == ["T1w.nii.gz", "T1w.nii.gz", "T2w.nii.gz", "T2w.nii.gz"]
    for path in converted.folder.rglob("*.nii.gz"):
        image = read_image(path)
        np.testing.assert_allclose(image.affine, ras(lps("axial")), atol=1e-5)
        told = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert told["EchoTime"] == pytest.approx(2.98e-3)
        assert told["ManufacturersModelName"] == "Prisma"
        assert not {
            key for key in told if "Date" in key or "Patient" in key or "UID" in key or "Serial" in key
        }


def test_nothing_is_converted_twice_and_a_new_study_alone(pacs, tmp_path, monkeypatch):
    told = []
    first = convert(data(pacs), tmp_path / "cache", told.append)
    assert len(told) == 4
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.nii.gz")}
    with monkeypatch.context() as patch:
        patch.setattr("polysite.data.dicom.convert.scan", None)  # an unchanged folder is not even read
        assert convert(data(pacs), tmp_path / "cache", told.append) == first
    write_series(pacs / "p3", person="P3", study="1.2.3", description="t1")
    told.clear()
    assert volumes(convert(data(pacs), tmp_path / "cache", told.append)).count("T1w.nii.gz") == 3
    assert len(told) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_is_gone_or_cut_short_is_mended(pacs, tmp_path):
    first = convert(data(pacs), tmp_path / "cache")
    victim = next(first.folder.rglob("*T1w.nii.gz"))
    content = victim.read_bytes()
    victim.write_bytes(content[:50])
    convert(data(pacs), tmp_path / "cache")
    assert victim.read_bytes() == content
    shutil.rmtree(pacs / "p2")
    assert volumes(convert(data(pacs), tmp_path / "cache")) == ["T1w.nii.gz", "T2w.nii.gz"]


def test_a_stopped_conversion_goes_on(pacs, tmp_path, monkeypatch):
    from polysite.data.dicom import convert as module

    write, n = module.write_image, []

    def failing(*arguments):
        n.append(1)
        if len(n) == 3:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(module, "write_image", failing)
    with pytest.raises(KeyboardInterrupt):
        convert(data(pacs), tmp_path / "cache")
    told = []
    assert len(volumes(convert(data(pacs), tmp_path / "cache", told.append))) == 4
    assert len(told) == 2


def test_of_several_series_the_largest_acquired_one_is_taken(tmp_path):
    def derived(item, k):
        item.ImageType = ["DERIVED", "SECONDARY", "MPR"]

    write_series(tmp_path / "a", values((4, 4, 3)), description="t1_loc")
    write_series(tmp_path / "b", values((4, 4, 9)), description="T1 MPRAGE")
    write_series(tmp_path / "c", values((4, 4, 20)), description="t1_mpr", change=derived)
    write_series(tmp_path / "d", values((4, 4, 30)), description="t2_gd")
    converted = convert(data(tmp_path), tmp_path / "cache")
    assert volumes(converted) == ["T1w.nii.gz"]
    assert read_image(next(converted.folder.rglob("*.nii.gz"))).shape == (4, 4, 9)
    notes = every_note(converted)
    assert "series 1 was passed over for series 2" in notes
    assert "series 3 was passed over: it is derived" in notes
    taken = convert(data(tmp_path, derived=True), tmp_path / "cache")
    assert read_image(next(taken.folder.rglob("*.nii.gz"))).shape == (4, 4, 20)


def test_a_protocol_name_fits_too_and_an_enhanced_object_is_a_series(tmp_path):
    write_enhanced(tmp_path / "scan" / "a", description="T1W_3D_TFE")
    assert volumes(convert(data(tmp_path / "scan"), tmp_path / "cache")) == ["T1w.nii.gz"]


def test_where_chooses_scanners(tmp_path):
    def old(item, k):
        item.MagneticFieldStrength = "1.5"

    write_series(tmp_path / "pacs" / "a", person="P1", study="1.2.1")
    write_series(tmp_path / "pacs" / "b", person="P2", study="1.2.2", change=old)
    kept = convert(data(tmp_path / "pacs", where={"MagneticFieldStrength": "3"}), tmp_path / "cache")
    other = convert(data(tmp_path / "pacs", where={"Manufacturer": "siem*"}), tmp_path / "cache")
    assert len(volumes(kept)) == 1
    assert len(volumes(other)) == 2
    # both below one folder: the same label is the same person
    assert kept.people == other.people
    labels = {path.name for path in other.folder.glob("sub-*")}
    assert {path.name for path in kept.folder.glob("sub-*")} < labels


def test_trouble_is_refused_or_left_out(tmp_path):
    pacs = tmp_path / "NAME"
    write_series(pacs / "good", person="P1", study="1.2.1")
    write_series(pacs / "bad", person="P2", study="1.2.2", change=lambda item, k: k != 3)
    with pytest.raises(DataError, match=r"series 1 \(T1w\): a slice seems to be missing") as caught:
        convert(data(pacs), tmp_path / "cache")
    assert "bad" not in str(caught.value).replace(str(pacs), "")
    left = convert(data(pacs, trouble="leave_out"), tmp_path / "cache")
    assert len(volumes(left)) == 1
    assert "left out: a slice seems to be missing" in every_note(left)


def test_nothing_that_fits_says_what_was_there(tmp_path):
    write_series(tmp_path / "pacs", description="dwi of Mrs Doe")
    (tmp_path / "pacs" / "x").write_text("x")
    with pytest.raises(DataError, match=r"1 series, none of them .* \(1 files are not DICOM") as caught:
        convert(data(tmp_path / "pacs"), tmp_path / "cache")
    assert "Doe" not in str(caught.value)


def test_a_missing_folder_is_named_as_it_was_given(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        convert(data(tmp_path / "nowhere"), tmp_path / "cache")


# --- pseudonyms ---------------------------------------------------------------------------------------


def subjects(converted):
    return {path.name.removeprefix("sub-") for path in converted.folder.glob("sub-*")}


def test_labels_are_keyed(pacs, tmp_path):
    one, two = (convert(data(pacs), tmp_path / name) for name in ("one", "two"))
    assert len(subjects(one)) == len(subjects(two)) == 2
    assert not subjects(one) & subjects(two)
    shutil.copytree(tmp_path / "one" / "dicom", tmp_path / "three" / "dicom")
    assert subjects(convert(data(pacs), tmp_path / "three")) == subjects(one)
    for label in subjects(one):
        assert len(label) == LENGTH
        for hashed in (hashlib.sha256, hashlib.sha1, hashlib.md5):
            assert not hashed(b"P1").hexdigest().startswith(label)


def test_one_person_s_studies_are_sessions_of_one_subject(tmp_path):
    for n in (1, 2):
        write_series(tmp_path / "pacs" / str(n), values() + n, study=f"1.2.{n}")
    converted = convert(data(tmp_path / "pacs"), tmp_path / "cache")
    (subject,) = converted.folder.glob("sub-*")
    assert len(list(subject.glob("ses-*"))) == 2


def test_images_without_a_patient_are_not_one_person(tmp_path):
    for n in (1, 2):
        write_series(tmp_path / "pacs" / str(n), values() + n, person="", study=f"1.2.{n}")
    converted = convert(data(tmp_path / "pacs"), tmp_path / "cache")
    assert len(subjects(converted)) == 2
    assert "2 studies have no PatientID" in every_note(converted)


def test_words_cannot_be_shifted_between_fields():
    names = Pseudonyms(b"s" * 32)
    assert names.of("person", "ab", "c") != names.of("person", "a", "bc")


def test_the_site_s_own_key_wins_and_leaves_out_others(pacs, tmp_path):
    key = tmp_path / "key.csv"
    key.write_text("patient_id,label\nP2,study-007\n")
    converted = convert(data(pacs, key=key), tmp_path / "cache")
    assert subjects(converted) == {"study007"}
    assert "1 persons are not in `key`" in every_note(converted)
    for text, words in (
        ("patient_id,label\nP1,a\nP2,a\n", "row 3"),
        ("patient_id,label\nP1,a\nP1,b\n", "row 3"),
        ("id,label\nP1,a\n", "needs the columns"),
        ("patient_id,label\nP1,\n", "row 2"),
    ):
        key.write_text(text)
        with pytest.raises(DataError, match=words) as caught:
            read_key(key)
        assert "P1" not in str(caught.value)


def test_the_secret_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "deep" / "secret"
    first = read_secret(path)
    assert read_secret(path) == first
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o640)
    with pytest.raises(DataError, match="chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(DataError, match="at least 32"):
        read_secret(path)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"contrasts": {}}, "at least 1"),
        ({"contrasts": {"T1w": ["!*t2*"]}}, "must not fit"),
        ({"contrasts": {"T1-w": "a", "T1w": "b"}}, "differ by - or _"),
        ({"where": {"InstitutionName": "x"}}, "is not known of a series"),
    ],
)
def test_settings_that_cannot_be(tmp_path, over, words):
    with pytest.raises(ValidationError, match=words):
        data(tmp_path, **over)


CONVERT = """
import sys
from pathlib import Path
from polysite.config.sources import DicomData
from polysite.data.dicom.convert import convert
data = DicomData(path=Path(sys.argv[1]), contrasts={"T1w": "*t1*", "T2w": "*t2*"})
convert(data, Path(sys.argv[2]), print)
"""


def test_two_processes_take_turns_and_the_second_finds_all_done(pacs, tmp_path):
    command = [sys.executable, "-c", CONVERT, str(pacs), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("converting ") for text in told) == 4
    assert len(list((tmp_path / "cache" / "dicom").rglob("*.nii.gz"))) == 4
