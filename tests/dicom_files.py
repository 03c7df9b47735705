"""Series of small DICOM files with known values, places and owners."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"

Change = Callable[[Dataset, int], Any]


def lps(orientation: str, spacing: tuple[float, float, float] = (0.9, 1.1, 3.0)) -> NDArray[np.float64]:
    """An LPS affine of a stack: x along a row, y along a column, z from slice to slice."""
    axes = {
        "axial": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "sagittal": [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
        "coronal": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    }
    if orientation == "oblique":
        a, b = 0.4, -0.3
        turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    else:
        turn = np.array(axes[orientation], dtype=float).T
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = [-31.5, 22.25, -40.125]
    return affine


def ras(affine: NDArray[Any]) -> NDArray[Any]:
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def values(shape: tuple[int, int, int] = (12, 10, 7), top: int = 4096) -> NDArray[np.int64]:
    """Whole numbers that differ from voxel to voxel."""
    return np.random.default_rng(sum(shape)).integers(0, top, shape)


def _numbers(numbers: Any) -> list[str]:
    return [f"{number:.10g}"[:16] for number in numbers]


def _common(person: str, study: str, description: str) -> Dataset:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.PatientID, item.PatientName = person, f"Name^{person}"
    item.PatientBirthDate, item.PatientSex = "19700102", "F"
    item.StudyInstanceUID, item.StudyID = study, "S1"
    item.StudyDate, item.StudyTime, item.AccessionNumber = "20240305", "101112", "A77"
    item.ReferringPhysicianName = "Referrer^R"
    item.SeriesDescription, item.ProtocolName, item.Modality = description, description, "MR"
    item.SeriesNumber = 3
    item.FrameOfReferenceUID, item.PositionReferenceIndicator = f"{study}.7", ""
    item.Manufacturer, item.ManufacturerModelName = "SIEMENS", "Prisma"
    item.MagneticFieldStrength, item.FlipAngle = "3", "9"
    item.RepetitionTime, item.EchoTime = "2300", "2.98"
    item.ScanningSequence, item.SequenceVariant, item.ScanOptions = ["GR", "IR"], "MP", ""
    item.MRAcquisitionType, item.EchoTrainLength = "3D", 1
    return item


def _store(dataset: Dataset, array: NDArray[Any], bits: tuple[int, int], signed: bool) -> None:
    allocated, stored = bits
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = array.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    dataset["PixelData"].VR = "OW" if allocated > 8 else "OB"


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set; uncompressed values are brought to the syntax's order or packed."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    elif syntax == "1.2.840.10008.1.2.2":
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path,
    array: NDArray[Any] | None = None,
    affine: NDArray[Any] | None = None,
    *,
    person: str = "P1",
    study: str = "1.2.3.4",
    series: str | None = None,
    description: str = "t1_mprage_sag",
    name: str = "im{:03d}.dcm",
    syntax: str = ExplicitVRLittleEndian,
    bits: tuple[int, int] = (16, 12),
    signed: bool = False,
    change: Change | None = None,
) -> list[Path]:
    """One file a slice, in an order that is not the slices'; `affine` is LPS.

    `change` may alter the data set of a slice, or drop it by returning ``False``.
    """
    array = values() if array is None else array
    affine = lps("axial") if affine is None else affine
    series = series or generate_uid(entropy_srcs=[study, description, str(folder)])[:56]
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / scale
    paths = []
    for k in range(array.shape[2]):
        item = _common(person, study, description)
        item.SOPClassUID, item.SOPInstanceUID = MR, f"{series}.{k + 1}"
        item.SeriesInstanceUID, item.InstanceNumber = series, k + 1
        item.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        item.ImagePositionPatient = _numbers((affine @ [0, 0, k, 1])[:3])
        item.ImageOrientationPatient = _numbers([*cosines[:, 0], *cosines[:, 1]])
        item.PixelSpacing = _numbers([scale[1], scale[0]])
        item.SliceThickness = item.SpacingBetweenSlices = f"{scale[2]:.6g}"
        item.Columns, item.Rows = array.shape[:2]
        _store(item, array[:, :, k].T, bits, signed)
        if change and change(item, k) is False:
            continue
        # neither the names nor the numbers are in the slices' order
        paths.append(folder / name.format((k * 5 + 3) % 997))
        save(item, paths[-1], syntax)
    return paths


def write_enhanced(
    path: Path,
    array: NDArray[Any] | None = None,
    affine: NDArray[Any] | None = None,
    *,
    person: str = "P1",
    study: str = "1.2.3.4",
    description: str = "t1_3d_tfe",
    order: list[int] | None = None,
    change: Change | None = None,
) -> Path:
    """The same volume as one enhanced object, its frames in any order."""
    array = values() if array is None else array
    affine = lps("oblique") if affine is None else affine
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / scale
    order = list(range(array.shape[2]))[::-1] if order is None else order
    whole = _common(person, study, description)
    for keyword in (
        "EchoTime",
        "RepetitionTime",
        "FlipAngle",
        "ScanningSequence",
        "SequenceVariant",
        "ScanOptions",
    ):
        delattr(whole, keyword)
    whole.SOPClassUID, whole.SOPInstanceUID = ENHANCED_MR, f"{study}.9.1"
    whole.SeriesInstanceUID, whole.InstanceNumber = f"{study}.9", 1
    whole.ImageType = ["ORIGINAL", "PRIMARY", "T1", "NONE"]
    whole.Columns, whole.Rows = array.shape[:2]
    whole.NumberOfFrames = len(order)
    whole.ContentDate, whole.ContentTime = "20240305", "101112"
    shared, measures, timing = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _numbers([scale[1], scale[0]]), f"{scale[2]:.6g}"
    measures.SpacingBetweenSlices = f"{scale[2]:.6g}"
    timing.RepetitionTime, timing.FlipAngle, timing.EchoTrainLength = "8.2", "8", 1
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index, k in enumerate(order):
        frame, place, turn, content, echo, scaling = (Dataset() for _ in range(6))
        place.ImagePositionPatient = _numbers((affine @ [0, 0, k, 1])[:3])
        turn.ImageOrientationPatient = _numbers([*cosines[:, 0], *cosines[:, 1]])
        content.StackID, content.InStackPositionNumber = "1", k + 1
        content.FrameAcquisitionNumber = 1
        content.DimensionIndexValues = [1, k + 1]
        echo.EffectiveEchoTime = 3.75
        scaling.RescaleSlope, scaling.RescaleIntercept, scaling.RescaleType = "2", "-5", "US"
        frame.PlanePositionSequence = Sequence([place])
        frame.PlaneOrientationSequence = Sequence([turn])
        frame.FrameContentSequence = Sequence([content])
        frame.MREchoSequence = Sequence([echo])
        frame.PixelValueTransformationSequence = Sequence([scaling])
        if change:
            change(frame, index)
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = Sequence(frames)
    _store(whole, np.stack([array[:, :, k].T for k in order]), (16, 16), False)
    save(whole, path)
    return path


def bomb(path: Path, n_bytes: int) -> None:
    """A deflated object that unpacks to much more than it is."""
    item = _common("P1", "1.2.3.4", "t1")
    item.SOPClassUID, item.SOPInstanceUID, item.SeriesInstanceUID = MR, "1.2.3.4.5.1", "1.2.3.4.5"
    _store(item, np.zeros((n_bytes // 2,)), (16, 12), False)
    save(item, path, DeflatedExplicitVRLittleEndian)
