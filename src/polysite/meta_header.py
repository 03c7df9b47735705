"""The header of a MetaImage, checked before a library allocates what it promises and opens what it names."""

import math
import re
from pathlib import Path

from polysite.bounded import LARGEST_BYTES

_LINES = 100
_LINE_BYTES = 4096
_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 8, "MET_ULONG": 8, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


def check_meta_header(path: Path) -> None:
    """Refuse a header that promises what the files do not hold, or that leads out of its folder.

    Raises
    ------
    ValueError
        Saying which entry is wrong.
    OSError
        If a file cannot be read.
    """
    entries, data_at = _entries(path)
    try:
        shape = [int(size) for size in entries["DimSize"].split()]
        needed = math.prod(shape) * _BYTES[entries["ElementType"]]
    except KeyError as error:
        raise ValueError(f"has no usable {error.args[0]!r}") from error
    if not shape or min(shape) < 1 or needed > LARGEST_BYTES:
        raise ValueError(f"DimSize {entries['DimSize']!r} is no volume of at most {LARGEST_BYTES} bytes")
    where = entries["ElementDataFile"]
    if where == "LOCAL":
        data, there = path, path.stat().st_size - data_at
    elif Path(where).name != where or where in {"LIST", "..", "."} or "%" in where:
        raise ValueError(f"ElementDataFile {where!r} must be LOCAL or one file in the same folder")
    else:
        data = path.parent / where
        there = data.stat().st_size
    if entries.get("CompressedData", "False").lower() != "true" and there < needed:
        raise ValueError(f"the values need {needed} bytes, {data.name} has {there}")


def _entries(path: Path) -> tuple[dict[str, str], int]:
    """``Key = value`` lines up to ElementDataFile, which is the last, and the byte after them."""
    entries: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_LINES):
            line = file.readline(_LINE_BYTES).decode("latin-1")
            match = re.fullmatch(r"\s*([^=]+?)\s*=\s*(.*?)\s*", line)
            if not match:
                break
            entries[match[1]] = match[2]
            if match[1] == "ElementDataFile":
                return entries, file.tell()
    raise ValueError("it is no MetaImage: its header has no ElementDataFile")
