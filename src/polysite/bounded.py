"""A file's bytes, uncompressed, and never more of them than its own header promises."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

LARGEST_BYTES = 1 << 32
"""Of one image; a file that promises more is taken for a broken one."""
TRAILING_BYTES = 1 << 20
"""What may follow the values: padding of some writers."""


def read_bounded(path: Path, n_header: int, promised: Callable[[bytes], int]) -> bytes:
    """Read a whole file; one whose name ends in ``.gz`` is decompressed, and its checksum verified.

    A few kilobytes of gzip can hold gigabytes, so reading stops where the header says that the values end.

    Parameters
    ----------
    n_header : int
        Bytes that `promised` is given (fewer, if the file is shorter).
    promised : callable
        Gives the number of bytes up to the last value.

    Raises
    ------
    ValueError
        If the file is empty, promises too much, or goes on far beyond what it promises.
    OSError, EOFError, zlib.error
        If it cannot be read or decompressed.
    """
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if packed else path.open("rb") as opened:
        file = cast(IO[bytes], opened)
        header = file.read(n_header)
        if not header:
            raise ValueError("the file is empty")
        needed = promised(header)
        if needed > LARGEST_BYTES:
            raise ValueError(f"its header promises {needed} bytes; at most {LARGEST_BYTES} are read")
        content = header + file.read(max(0, needed - len(header)))
        rest = file.read(TRAILING_BYTES + 1)  # to the end, where gzip keeps its checksum
        if len(rest) > TRAILING_BYTES:
            raise ValueError(f"its values end at byte {needed}, but the file goes on")
        return content
