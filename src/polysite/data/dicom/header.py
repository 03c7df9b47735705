"""What is read of one file: whose it is, what it shows, and where each of its frames lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polysite.data.dicom.parameters import KEYWORDS, Parameters, number_of, parameters_of
from polysite.data.dicom.reading import ENHANCED, MR_IMAGE, Damaged, quiet, read_header

_IDENTITY = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_PIXELS = (
    "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip
_PLACE = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)
_APART = (
    "EchoTime", "EffectiveEchoTime", "InversionTime", "FlipAngle", "TemporalPositionIdentifier",
    "TemporalPositionIndex", "TriggerTime", "NominalCardiacTriggerDelayTime", "DiffusionBValue",
    "ComplexImageComponent", "StackID", "AcquisitionNumber",
)  # fmt: skip
"""By what images at one place may differ, most telling first."""
_SHOWN = (
    "SeriesDescription",
    "ProtocolName",
    "SeriesNumber",
    "ImageType",
    "SpecificCharacterSet",
    "InstanceNumber",
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_WANTED = tuple(dict.fromkeys((*_IDENTITY, *_PIXELS, *_PLACE, *_APART, *_SHOWN, *_GROUPS, *KEYWORDS)))

MAX_FRAMES = 100_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and where it lies (LPS, mm), as the file says it; None where it does not.

    Attributes
    ----------
    index : int
        Its number in the file, from 0.
    position, orientation, spacing_mm : tuples of float
        ImagePositionPatient; ImageOrientationPatient; PixelSpacing (between rows, between columns).
    slope, intercept : float
        From stored values to the image's.
    apart : tuple of (str, str)
        What may tell it from another picture at the same place.
    """

    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float
    intercept: float
    apart: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a file's values are stored."""

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    samples: int
    photometric: str


@dataclass(frozen=True, slots=True)
class Header:
    """One file. The first five and the texts may identify a person: they stay in memory.

    Attributes
    ----------
    person : tuple of str
        PatientID and who issued it.
    kind : tuple of str
        ImageType.
    """

    person: tuple[str, str]
    study: str
    series: str
    instance: str
    description: str
    protocol: str
    series_number: str
    kind: tuple[str, ...]
    syntax: str
    pixels: Pixels
    frames: tuple[Frame, ...]
    parameters: Parameters


def header_of(path: Path) -> Header | str:
    """A file's header; ``"not DICOM"`` or ``"other"`` if it is no MR image.

    Raises
    ------
    Damaged
        If it is cut short or says what cannot be.
    """
    dataset = read_header(path, _WANTED)
    if dataset is None:
        return "not DICOM"
    kind = str(dataset.file_meta.MediaStorageSOPClassUID)
    if kind not in (MR_IMAGE, *ENHANCED):
        return "other"
    series = None
    try:
        with quiet():
            series = _text(dataset, "SeriesInstanceUID")
            return _header(dataset, enhanced=kind in ENHANCED)
    except Damaged as error:
        raise Damaged(str(error), series) from None
    except Exception:  # elements are converted when they are looked at, and may hold anything
        raise Damaged("has a damaged header", series) from None


def _header(dataset: Any, *, enhanced: bool) -> Header:
    pixels = _pixels(dataset)
    shared, own = (dataset.get(name) for name in _GROUPS)
    if enhanced and (not own or len(own) != pixels.frames):
        raise Damaged("has not as many descriptions as frames")
    if not enhanced and pixels.frames != 1:
        raise Damaged("holds several frames, which this kind of object cannot")
    frames = tuple(
        _frame(index, [*([own[index]] if enhanced else []), *(shared or ()), dataset])
        for index in range(pixels.frames)
    )
    sources = [*(own[:1] if enhanced else ()), *(shared or ()), dataset]
    values = {keyword: _first(sources, keyword) for keyword in KEYWORDS}
    values["EchoTime"] = _first(sources, "EffectiveEchoTime") or values["EchoTime"]
    identity = [_text(dataset, name) for name in _IDENTITY]
    if not all(identity[2:]):
        raise Damaged("lacks the UID of its study, series or image")
    return Header(
        person=(identity[0], identity[1]),
        study=identity[2],
        series=identity[3],
        instance=identity[4],
        description=_text(dataset, "SeriesDescription"),
        protocol=_text(dataset, "ProtocolName"),
        series_number=_text(dataset, "SeriesNumber"),
        kind=tuple(str(part).strip().upper() for part in _list(dataset.get("ImageType"))),
        syntax=str(dataset.file_meta.TransferSyntaxUID),
        pixels=pixels,
        frames=frames,
        parameters=parameters_of(values),
    )


def _pixels(dataset: Any) -> Pixels:
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= n_frames <= MAX_FRAMES:
        raise Damaged(f"says that it holds {n_frames} frames; 1 to {MAX_FRAMES} are read")
    return Pixels(
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=n_frames,
        allocated=int(dataset.BitsAllocated),
        stored=int(dataset.BitsStored),
        high_bit=int(dataset.HighBit),
        signed=bool(int(dataset.PixelRepresentation)),
        samples=int(dataset.SamplesPerPixel),
        photometric=_text(dataset, "PhotometricInterpretation"),
    )


def _frame(index: int, sources: Sequence[Any]) -> Frame:
    """A frame from its own functional groups, the shared ones, and the data set, in this order."""
    slope, intercept = (_first(sources, name) for name in ("RescaleSlope", "RescaleIntercept"))
    apart = [(name, _first(sources, name)) for name in _APART]
    kind = _list(_first(sources, "FrameType") or _first(sources, "ImageType"))[2:]
    return Frame(
        index=index,
        position=_numbers(_first(sources, "ImagePositionPatient"), 3),
        orientation=_numbers(_first(sources, "ImageOrientationPatient"), 6),
        spacing_mm=_numbers(_first(sources, "PixelSpacing"), 2),
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        apart=(
            *((name, str(value)) for name, value in apart if value not in (None, "")),
            ("ImageType", "\\".join(map(str, kind))),
        ),
    )


def _first(sources: Sequence[Any], keyword: str) -> Any:
    """An element from the first source that has it, in itself or in one of its functional groups."""
    for source in sources:
        for place in (source, *_groups(source)):
            if keyword in place and place[keyword].value not in (None, ""):
                return place[keyword].value
    return None


def _groups(source: Any) -> Iterator[Any]:
    """The items of a functional group; a data set itself is not searched, only elements of its own count."""
    if "Rows" in source:
        return
    for element in source:
        if element.VR == "SQ":
            yield from element.value[:1]


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _list(value: Any) -> list[Any]:
    return [] if value in (None, "") else [value] if isinstance(value, str) else list(value)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    numbers = tuple(number_of(item) for item in _list(value))
    if len(numbers) != count or None in numbers:
        return None
    return tuple(number for number in numbers if number is not None)
