"""What every DICOM result has: a folder that appears whole, the patient and study of its source, who made it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from polysite import __version__
from polysite.data.dicom.reading import quiet
from polysite.errors import ConfigError, DataError, PolysiteError

PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""What a result has in common with its source: whose it is, of which study, in which frame of reference."""
MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
"""What DICOM wants to be there, if need be without a value."""


def free_folder(folder: Path) -> None:
    """Refuse a folder that is there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--dicom {folder}: is there already and not empty; choose another folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block succeeds and vanishes when not.

    Whatever goes wrong with the patient's elements is told without their content.
    """
    aside = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
    try:
        aside.mkdir(parents=True)
        with quiet():
            yield aside
        if folder.is_dir():
            folder.rmdir()
        aside.rename(folder)
    except PolysiteError:
        raise
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror}; check the folder and its space"
        ) from None
    except Exception:  # the libraries' messages quote the elements that they stumble over
        raise DataError(
            f"{folder}: the DICOM result cannot be written, because an element of the source's patient or study is "
            "not as DICOM wants it; the NIfTI file is written"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def new_uid() -> str:
    """A UID of its own, made from a random UUID (2.25.…)."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def of_patient(source: Any) -> Any:
    """A data set with the patient, the study and the frame of reference of a source, and nothing else of it."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            made[keyword] = source[keyword]
        elif keyword in MAY_BE_EMPTY:
            setattr(made, keyword, None)
    if "FrameOfReferenceUID" not in made:
        made.FrameOfReferenceUID = new_uid()
    return made


def code(value: str, scheme: str, meaning: str) -> Any:
    """A sequence of one coded concept."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


MANUFACTURER, MODEL, SOFTWARE = "Polysite", "Polysite", f"Polysite {__version__}"
