"""What a sidecar says about an acquisition: a list of what may be told, and nothing else.

Names and units are those of BIDS: times in seconds. Whatever is not listed stays in the DICOM file, among it
everything that names a person, a date, a place, a device or an object, and every free text.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

SECONDS = {"EchoTime": 1e-3, "RepetitionTime": 1e-3, "InversionTime": 1e-3}
NUMBERS = (
    "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "MagneticFieldStrength", "SliceThickness",
    "SpacingBetweenSlices", "EchoTrainLength", "PixelBandwidth", "NumberOfAverages",
)  # fmt: skip
TEXTS = {
    "Manufacturer": "Manufacturer",
    "ManufacturerModelName": "ManufacturersModelName",
    "SequenceName": "SequenceName",
    "ScanningSequence": "ScanningSequence",
    "SequenceVariant": "SequenceVariant",
    "ScanOptions": "ScanOptions",
    "MRAcquisitionType": "MRAcquisitionType",
}
"""DICOM's keyword -> BIDS' name."""
KEYWORDS = (*NUMBERS, *TEXTS)

Parameters = dict[str, float | str]


def parameters_of(values: Mapping[str, Any]) -> Parameters:
    """The sidecar of an acquisition.

    Parameters
    ----------
    values : mapping of str to value
        DICOM keyword to what the file holds. Those that are not listed here are dropped, as are numbers that
        are none, and texts longer than a model's name.

    >>> parameters_of({"EchoTime": 90.0, "FlipAngle": 120, "PatientName": "Doe^Jane"})
    {'EchoTime': 0.09, 'FlipAngle': 120.0}
    """
    found: Parameters = {}
    for keyword in NUMBERS:
        number = number_of(values.get(keyword))
        if number is not None:
            found[keyword] = round(number * SECONDS.get(keyword, 1.0), 9)
    for keyword, name in TEXTS.items():
        text = "\\".join(_items(values.get(keyword)))
        if re.fullmatch(r"[A-Za-z0-9 ._/*+\\-]{1,64}", text):
            found[name] = text
    return found


def number_of(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _items(value: Any) -> list[str]:
    if value is None:
        return []
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return [str(item) for item in (value if several else [value])]
