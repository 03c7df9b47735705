"""A predicted label image as a DICOM Segmentation object on the slices of its source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polysite.data.dicom.reading import read_whole
from polysite.data.dicom.series import Stack
from polysite.errors import ConfigError
from polysite.image import Image
from polysite.predictions.dicom_images import SERIES_OFFSET
from polysite.predictions.dicom_output import MANUFACTURER, MODEL, SOFTWARE, new_uid

KNOWN = {
    "LV": ("87878005", "SCT", "Left ventricle"),
    "RV": ("53085002", "SCT", "Right ventricle"),
    "MYO": ("74281007", "SCT", "Myocardium"),
}
"""Classes whose meaning is agreed on in this project; any other has a code of its own, made from its name."""


def write_segments(
    path: Path, image: Image, stack: Stack, *, names: Mapping[int, str], about: str, device: str
) -> None:
    """Write one object with a segment a class.

    Parameters
    ----------
    image : Image
        Labels on the grid of `stack`.
    names : mapping of int to str
        Value to class; 0 is the background and has no segment.
    about : str
        ContentDescription.
    device : str
        What stands for the trained model where DICOM wants a serial number.
    """
    require_highdicom()
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name=MODEL, family=codes.DCM.ArtificialIntelligence, version=SOFTWARE, source=MANUFACTURER
    )
    values = [value for value in sorted(names) if value]
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=names[value],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=_meaning(names[value]),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, value in enumerate(values, start=1)
    ]
    sources, order = _sources(stack)
    numbers = np.zeros(image.array.shape, np.uint8)
    for number, value in enumerate(values, start=1):
        numbers[np.rint(image.array) == value] = number
    frames = np.ascontiguousarray(np.transpose(numbers, (2, 1, 0))[order])
    first = sources[0]
    made = Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=new_uid(),
        series_number=SERIES_OFFSET + int(first.get("SeriesNumber") or 0) % 1000,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=SOFTWARE,
        device_serial_number=device,
        content_description=about[:64],
        content_creator_name="Polysite^Software",
        series_description="Segmentation by a network, not for diagnosis",
        omit_empty_frames=bool(frames.any()),
    )
    made.BurnedInAnnotation, made.ContentQualification = "NO", "RESEARCH"
    made.save_as(path)


def require_highdicom() -> None:
    """Refuse to go on without the extra."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "writing DICOM segmentations needs the package highdicom; install it with: pip install 'polysite[dicom]'"
        ) from error


def _meaning(name: str) -> Any:
    from pydicom.sr.coding import Code

    return Code(*KNOWN.get(name, (name.upper()[:16], "99POLYSITE", name[:64])))


def _sources(stack: Stack) -> tuple[Sequence[Any], list[int]]:
    """The source's data sets without pixels, and for each of their frames the slice that it is."""
    if len({piece.path for piece in stack.slices}) == 1:
        by_frame = sorted(range(len(stack.slices)), key=lambda index: stack.slices[index].frame.index)
        whole = read_whole(stack.slices[0].path)
        if len(stack.slices) > 1:
            _share(whole)
        return [whole], by_frame
    sources = []
    for piece in stack.slices:
        source = read_whole(piece.path)
        del source.PixelData
        sources.append(source)
    return sources, list(range(len(sources)))


def _share(whole: Any) -> None:
    """Say for all frames what each of them says alike: highdicom looks for it there, vendors write it a frame."""
    shared, first = whole.SharedFunctionalGroupsSequence[0], whole.PerFrameFunctionalGroupsSequence[0]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword not in shared and keyword in first:
            setattr(shared, keyword, first[keyword].value)
