"""A synthetic volume as a DICOM series: derived MR images on the slices of their source."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.data.dicom.parameters import number_of
from polysite.data.dicom.reading import MR_IMAGE, read_whole
from polysite.data.dicom.series import Slice, Stack
from polysite.image import Image
from polysite.predictions.dicom_output import MANUFACTURER, MODEL, SOFTWARE, code, new_uid, of_patient

TOP = 4095
"""Values are stored in 12 bits."""
SERIES_OFFSET = 9000
"""Added to the source's SeriesNumber, so that the result comes after what was scanned."""


def write_images(folder: Path, image: Image, stack: Stack, *, title: str, about: str) -> None:
    """Write a file a slice.

    Stored are whole numbers from 0 to 4095 that need no rescale slope, which MR images do not have in the
    standard and viewers treat in different ways. The Real World Value Mapping says which numbers of `image` they
    stand for: stored × slope + intercept.

    Parameters
    ----------
    image : Image
        On the grid of `stack`.
    title, about : str
        SeriesDescription (64 letters) and DerivationDescription.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    low, high = float(min(image.array.min(), 0)), float(max(image.array.max(), 1))
    slope = (high - low) / TOP
    stored = np.clip(np.rint((image.array - low) / slope), 0, TOP).astype("<u2")
    now, series = datetime.now(), new_uid()
    sources = _Sources()
    for index, piece in enumerate(stack.slices):
        source = sources.of(piece)
        made = of_patient(source)
        made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = MR_IMAGE, new_uid(), series
        made.InstanceNumber = index + 1
        made.SeriesNumber = SERIES_OFFSET + int(number_of(source.get("SeriesNumber")) or 0) % 1000
        made.Modality, made.ImageType = "MR", ["DERIVED", "SECONDARY", "OTHER"]
        made.SeriesDescription, made.DerivationDescription = title[:64], about[:1024]
        made.ImageComments = "Synthetic image. Not for diagnosis."
        made.BurnedInAnnotation, made.ContentQualification = "NO", "RESEARCH"
        made.SourceImageSequence = _reference(source, piece)
        _say_who(made, now)
        _place(made, stack, index)
        _fill(made, stored[:, :, index].T, slope, low)
        made.file_meta = FileMetaDataset()
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / f"{index + 1:04d}.dcm", enforce_file_format=True)


class _Sources:
    """The data sets of the source's files; the last one is kept, because it may hold all slices."""

    def __init__(self) -> None:
        self._held: tuple[Path, Any] | None = None

    def of(self, piece: Slice) -> Any:
        if self._held is None or self._held[0] != piece.path:
            self._held = piece.path, read_whole(piece.path)
        return self._held[1]


def _reference(source: Any, piece: Slice) -> Any:
    """Which image a slice was made from."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if piece.header.pixels.frames > 1:
        item.ReferencedFrameNumber = piece.frame.index + 1
    item.PurposeOfReferenceCodeSequence = code("121322", "DCM", "Source image for image processing operation")
    return Sequence([item])


def _say_who(made: Any, now: datetime) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = MANUFACTURER, MODEL, SOFTWARE
    made.SeriesDate = made.ContentDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.SeriesTime = made.ContentTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = code("109102", "DCM", "Processing Equipment")
    item.Manufacturer, item.ManufacturerModelName, item.SoftwareVersions = MANUFACTURER, MODEL, SOFTWARE
    made.ContributingEquipmentSequence = Sequence([item])


def _place(made: Any, stack: Stack, index: int) -> None:
    """Where a slice lies; LPS, as the source says it."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ stack.affine
    column_mm, row_mm, gap_mm = np.linalg.norm(lps[:3, :3], axis=0)
    x, y = lps[:3, 0] / column_mm, lps[:3, 1] / row_mm
    position = (lps @ [0, 0, index, 1])[:3]
    made.ImagePositionPatient = [_decimal(number) for number in position]
    made.ImageOrientationPatient = [_decimal(number) for number in (*x, *y)]
    made.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    made.SpacingBetweenSlices = _decimal(gap_mm)
    made.SliceLocation = _decimal(float(position @ (lps[:3, 2] / gap_mm)))
    thickness = number_of(stack.slices[index].header.parameters.get("SliceThickness"))
    made.SliceThickness = _decimal(gap_mm if thickness is None else thickness)
    # of the synthetic contrast nothing was acquired: DICOM's words for an image without a pulse sequence
    made.ScanningSequence, made.SequenceVariant, made.ScanOptions = "RM", "NONE", None
    made.MRAcquisitionType = made.EchoTime = made.EchoTrainLength = made.RepetitionTime = None


def _decimal(number: float) -> str:
    """A number in the 16 letters that DICOM allows."""
    return f"{number:.9g}"[:16] if abs(number) >= 1e-4 else f"{number:.9f}"


def _fill(made: Any, stored: NDArray[Any], slope: float, intercept: float) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    made.Rows, made.Columns = stored.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.WindowCenter, made.WindowWidth = f"{(TOP + 1) / 2:g}", f"{TOP + 1}"
    item = Dataset()
    item.add_new("RealWorldValueFirstValueMapped", "US", 0)
    item.add_new("RealWorldValueLastValueMapped", "US", TOP)
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.LUTLabel, item.LUTExplanation = "SYNTHETIC", "Preparation's percentiles are 0 and 1"
    item.MeasurementUnitsCodeSequence = code("1", "UCUM", "no units")
    made.RealWorldValueMappingSequence = Sequence([item])
    made.add_new("PixelData", "OW", stored.tobytes())
