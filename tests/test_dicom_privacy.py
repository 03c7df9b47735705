"""No name, date, place or UID of a DICOM file is in anything that Polysite writes or says, from check to report."""

import gzip
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml

from command import polysite, refused, well
from dicom_files import lps, ras, write_series
from heads import head

MARK = "QXZMARK"
SHAPE = (24, 20, 10)
NUMBER = "1.2.826.0.1.77177177"
"""Where letters are not allowed."""
DATE, TIME = "19610709", "071309"

IDENTIFYING = {
    "PatientName": f"{MARK}^Jane",
    "OtherPatientNames": f"{MARK}^Maiden",
    "PatientBirthName": f"{MARK}^B",
    "PatientMotherBirthName": f"{MARK}^M",
    "OtherPatientIDs": f"{MARK}OPID",
    "PatientAddress": f"{MARK} street",
    "PatientTelephoneNumbers": f"{MARK}555",
    "MilitaryRank": f"{MARK}R",
    "EthnicGroup": f"{MARK}E",
    "Occupation": f"{MARK}O",
    "PatientComments": f"{MARK} comment",
    "AdditionalPatientHistory": f"{MARK} history",
    "PatientInsurancePlanCodeSequence": None,
    "PatientBirthDate": DATE,
    "PatientBirthTime": TIME,
    "PatientReligiousPreference": f"{MARK}rel",
    "MedicalRecordLocator": f"{MARK}loc",
    "StudyDate": DATE,
    "SeriesDate": DATE,
    "AcquisitionDate": DATE,
    "ContentDate": DATE,
    "StudyTime": TIME,
    "SeriesTime": TIME,
    "AcquisitionTime": TIME,
    "ContentTime": TIME,
    "AcquisitionDateTime": f"{DATE}{TIME}",
    "PerformedProcedureStepStartDate": DATE,
    "InstanceCreationDate": DATE,
    "IssuerOfPatientID": f"{MARK}issuer",
    "AccessionNumber": f"{MARK}ACC",
    "StudyID": f"{MARK}SID",
    "StudyDescription": f"{MARK} study",
    "InstitutionName": f"{MARK} hospital",
    "InstitutionAddress": f"{MARK} road",
    "InstitutionalDepartmentName": f"{MARK} dep",
    "ReferringPhysicianName": f"{MARK}^Ref",
    "PerformingPhysicianName": f"{MARK}^Per",
    "OperatorsName": f"{MARK}^Op",
    "NameOfPhysiciansReadingStudy": f"{MARK}^Read",
    "RequestingPhysician": f"{MARK}^Req",
    "PhysiciansOfRecord": f"{MARK}^Rec",
    "StationName": f"{MARK}STAT",
    "DeviceSerialNumber": f"{MARK}SER",
    "SoftwareVersions": f"{MARK}SW",
    "DeviceUID": f"{NUMBER}.8",
    "FrameOfReferenceUID": f"{NUMBER}.9",
    "ImageComments": f"{MARK} image",
    "RequestedProcedureDescription": f"{MARK} proc",
    "PerformedProcedureStepDescription": f"{MARK} pps",
    "RequestAttributesSequence": None,
    "DerivationDescription": f"{MARK} derivation",
    "ContrastBolusAgent": f"{MARK} agent",
    "ReceiveCoilName": f"{MARK}COIL",
    "DetectorID": f"{MARK}DET",
    "AdmissionID": f"{MARK}ADM",
    "PatientAge": "077Y",
}


def mark(item: pydicom.Dataset, person: int) -> None:
    """Put marks into every element that may tell of a person, a place or a time."""
    for keyword, value in IDENTIFYING.items():
        if value is None:
            inner = pydicom.Dataset()
            inner.ScheduledProcedureStepDescription = f"{MARK} nested"
            setattr(item, keyword, [inner])
        else:
            setattr(item, keyword, value)
    item.add_new(0x00291010, "LO", f"{MARK} private")
    # what is too short for a parameter's name may be told, free text in its place not
    item.ScanOptions = "FS"
    item.SequenceName = "*tfl3d1"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of three patients, whose names are everywhere, and a run's YAML."""
    folder = tmp_path_factory.mktemp("hospital")
    affine = lps("oblique", (5.0, 5.5, 9.0))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    for person in range(3):
        for contrast in ("T1w", "T2w"):

            def change(item: pydicom.Dataset, k: int, person: int = person) -> None:
                mark(item, person)

            array = (head(contrast, SHAPE, ras(affine)) * (1 + person / 10)).clip(0, 4095).astype(int)
            write_series(
                folder / "pacs" / f"{MARK}_Jane_{person}" / f"{MARK}{contrast}",
                array,
                affine,
                person=f"{MARK}PID{person}",
                study=f"{NUMBER}.{person}",
                series=f"{NUMBER}.{person}.{len(contrast) + ord(contrast[1])}",
                description=f"{contrast[:2]}_tse {MARK}",
                name=f"{MARK}{{:03d}}.dcm",
                change=change,
            )
    (folder / "pacs" / f"{MARK}.txt").write_text("not DICOM")
    raw: dict[str, Any] = {
        "name": "tiny",
        "contrasts": ["T1w", "T2w"],
        "cache": str(folder / "cache"),
        "sites": {
            "abbey": {
                "data": {
                    "format": "dicom",
                    "path": str(folder / "pacs"),
                    "contrasts": {"T1w": "t1_*", "T2w": "t2_*"},
                },
                "tasks": ["T1w->T2w"],
            }
        },
        "task": {"name": "synthesis", "image_size": 24, "discriminator_width": 4},
        "network": {"name": "pflsynth", "width": 4, "n_blocks": 1, "latent": 8},
        "algorithm": {"name": "pflsynth"},
        "training": {"rounds": 1, "steps_per_round": 1, "batch_size": 2},
        "split": {"test": 0.34},
        "engine": {"name": "here", "threads": 1},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(raw))
    return folder


def layers(content: bytes) -> Iterator[bytes]:
    """Some bytes and, where they are packed, what they unpack to."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from layers(gzip.decompress(content))
    elif content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from layers(archive.read(name))


def traces(text: bytes) -> list[str]:
    """Marks in some bytes, in one, two or four bytes a letter."""
    words = [MARK, MARK.lower(), MARK[::-1], NUMBER, DATE, "1961-07-09", "077Y"]
    wanted = {
        word: [word.encode(enc) for enc in ("ascii", "utf-16-le", "utf-16-be", "utf-32-le")] for word in words
    }
    return [word for word, forms in wanted.items() if any(form in text for form in forms)]


def search(folder: Path) -> list[str]:
    """Where marks are in a folder: names and contents of all files."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if traces(name.encode()):
            found.append(f"the name {name}")
        if path.is_file():
            found += [f"{name}: {word}" for part in layers(path.read_bytes()) for word in traces(part)]
    return found


def test_the_search_finds_what_is_there(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(MARK.encode()))
    np.savez_compressed(tmp_path / "b.npz", name=np.array(MARK))
    (tmp_path / "c.bin").write_bytes(b"\0" + NUMBER.encode())
    assert len(search(tmp_path)) >= 3


@pytest.fixture(scope="module")
def after(clinic: Path) -> dict[str, str]:
    """Everything done once; what was said."""
    run = clinic / "run"
    patient = clinic / "pacs" / f"{MARK}_Jane_0"
    said = {}
    for name, command in {
        "check": ("check", clinic / "run.yaml"),
        "prepare": ("prepare", clinic / "run.yaml"),
        "train": ("train", clinic / "run.yaml", "--out", run),
        "resume": ("train", "--resume", run),
        "evaluate": ("evaluate", run),
        "report": ("report", run),
        "predict": ("predict", run, patient, clinic / "out" / "a.nii.gz", "--site", "abbey"),
        "file": (
            *("predict", run, patient / f"{MARK}T1w", clinic / "out" / "b.nii.gz", "--site", "abbey"),
            *("--dicom", clinic / "back"),
        ),
    }.items():
        done = polysite(*command)
        assert done.status == 0, done.err
        said[name] = done.out + done.err
    return said


def test_nothing_that_was_written_or_said_names_anyone(clinic, after):
    assert [name for name, text in after.items() if traces(text.encode())] == []
    for folder in ("run", "cache", "out"):
        assert list((clinic / folder).rglob("*")), folder
        assert search(clinic / folder) == []
    # only what was asked for as DICOM names the patient
    assert search(clinic / "back")


def test_sidecars_and_splits_use_the_pseudonyms(clinic, after):
    splits = json.loads((clinic / "run" / "splits.json").read_text())
    labels = {path.name.removeprefix("sub-") for path in (clinic / "cache" / "dicom").glob("*/*/sub-*")}
    assert labels == {label for part in splits["abbey"].values() for label in part}
    assert "Sources" not in json.loads((clinic / "out" / "a.json").read_text())


def test_errors_name_nobody(clinic, after, tmp_path, capfd):
    """Missing and damaged slices, no series, several series, a broken patient element: by numbers alone."""
    pacs = Path(shutil.copytree(clinic / "pacs", tmp_path / "pacs"))
    text = (clinic / "run.yaml").read_text().replace(str(clinic / "pacs"), str(pacs))
    (tmp_path / "run.yaml").write_text(text.replace(str(clinic / "cache"), str(tmp_path / "cache")))
    series = pacs / f"{MARK}_Jane_1" / f"{MARK}T1w"
    files = sorted(series.iterdir())
    content = files[0].read_bytes()
    run = clinic / "run"
    outcomes = []

    def fails(*command: object) -> None:
        done = polysite(*command)
        assert done.status in (1, 2)
        assert "Traceback" not in done.err
        outcomes.append(done.err)
        assert not traces((done.out + done.err).encode()), done.err

    predict = (
        "predict",
        run,
        series,
        tmp_path / "out.nii.gz",
        "--site",
        "abbey",
        "--dicom",
        tmp_path / "back",
    )
    for damage in (content[:-100], content[:900], content[:200]):
        files[0].write_bytes(damage)
        fails("check", tmp_path / "run.yaml")
        fails(*predict)
    middle = next(f for f in files if pydicom.dcmread(f, force=True).get("InstanceNumber") == 5)
    files[0].write_bytes(content)
    kept = middle.read_bytes()
    middle.unlink()
    fails("train", tmp_path / "run.yaml", "--out", tmp_path / "run")
    fails(*predict)
    middle.write_bytes(kept)
    fails("predict", run, pacs, tmp_path / "out.nii.gz", "--site", "abbey")
    for path in files:  # a date that is none
        path.write_bytes(path.read_bytes().replace(DATE.encode(), b"QXZMARK1"))
    done = polysite(*predict)
    assert not traces((done.out + done.err).encode())
    for path in pacs.rglob(f"{MARK}*"):
        if path.is_file():
            path.write_bytes(b"nothing")
    fails("check", tmp_path / "run.yaml")
    fails(*predict)
    assert any("a slice seems to be missing" in text for text in outcomes)
    assert search(tmp_path / "cache") == []
    out, err = capfd.readouterr()  # of code that is not Python, too
    assert not traces((out + err).encode())


def test_the_user_s_own_screen_shows_which_series_is_which(clinic):
    shown = well("dicom", clinic / "pacs", "--files")
    assert f"{MARK}PID0" in shown
    assert f"t1_tse {MARK}".replace("t1", "T1") in shown
    assert "24×20" in shown
    assert "6 MR series in 61 files" in shown


def test_without_the_extra_it_is_named(clinic, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for command in (
        ("dicom", clinic / "pacs"),
        ("check", clinic / "run.yaml", "--set", f"cache={clinic}/other"),
    ):
        refused(*command, says=["pip install 'polysite[dicom]'"], status=2)
