"""One DICOM file read with care: never without bound, never a word of its content in a message."""

import logging
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from polysite.errors import ConfigError, DataError

MAX_BYTES = 2**31
"""A larger file is not read."""
MAX_INFLATED = 2**28
"""A deflated data set may become this large (256 MiB); the largest series of MR are a quarter of it."""

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""Enhanced MR, and classic MR converted to it."""
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
_PIXEL_DATA = 0x7FE00010


class Damaged(DataError):
    """A DICOM file that cannot be read to its end; `series` is its series' UID, if that much was found."""

    def __init__(self, message: str, series: str | None = None) -> None:
        super().__init__(message)
        self.series = series


def require_pydicom() -> None:
    """Refuse to go on without the extra.

    Raises
    ------
    ConfigError
        Saying what to install.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "reading DICOM needs the package pydicom; install it with: pip install 'polysite[dicom]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warning or log of the libraries gets out: they quote values and file names."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    passing = [logger.propagate for logger in loggers]
    try:
        for logger in loggers:
            logger.propagate = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, passed in zip(loggers, passing, strict=True):
            logger.propagate = passed


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn whatever a parser raises on damaged bytes into one message that quotes nothing of the file."""
    try:
        with quiet():
            yield
    except DataError:
        raise
    except Exception:  # bytes that are wrong anywhere make parsers fail in any way
        raise Damaged("is damaged or cut short") from None


def read_header(path: Path, keywords: Sequence[str]) -> Any | None:
    """The named elements of an MR image, without its pixels; None if it is no DICOM file.

    Parameters
    ----------
    keywords : sequence of str
        Of the elements that are wanted; others are skipped.

    Returns
    -------
    pydicom.Dataset or None
        With ``file_meta``. An object of another class than MR images holds nothing but that.

    Raises
    ------
    Damaged
        If the file ends early, or cannot be parsed.
    """
    from pydicom.dataset import Dataset

    with _refusing():
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(132)[128:] != b"DICM":
                return None
        meta = _meta(path)
        if str(meta.MediaStorageSOPClassUID) not in (MR_IMAGE, *ENHANCED):
            other = Dataset()
            other.file_meta = meta
            return other
        if size > MAX_BYTES:
            raise Damaged(f"has {size} bytes; more than {MAX_BYTES} are not read")
        if meta.TransferSyntaxUID == DEFLATED:
            content = _inflated(path, meta)
            return _to_pixels(BytesIO(content), len(content), meta, keywords, bare=True)
        with path.open("rb") as file:
            return _to_pixels(file, size, meta, keywords, bare=False)


def read_whole(path: Path) -> Any:
    """Everything that a file holds.

    Raises
    ------
    Damaged
        If the file ends early, or cannot be parsed.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    with _refusing():
        meta = _meta(path)
        if meta.TransferSyntaxUID == DEFLATED:
            whole = read_dataset(BytesIO(_inflated(path, meta)), is_implicit_VR=False, is_little_endian=True)
            whole.file_meta = meta
        else:
            whole = dcmread(path)
        if "PixelData" not in whole:
            raise Damaged("is damaged or cut short")
        return whole


def _meta(path: Path) -> Any:
    from pydicom.filereader import read_file_meta_info

    return read_file_meta_info(path)


def _inflated(path: Path, meta: Any) -> bytes:
    """A deflated data set, unpacked as far as is allowed.

    pydicom would unpack all of it: a file of one megabyte can become a gigabyte.
    """
    with path.open("rb") as file:
        # preamble and prefix, the element that holds the length, and what it counts
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        packed = file.read(MAX_INFLATED)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(packed, MAX_INFLATED)
    if unpacker.unconsumed_tail:
        raise Damaged(f"unpacks to more than {MAX_INFLATED} bytes")
    if not unpacker.eof:
        raise Damaged("is damaged or cut short")
    return content


def _to_pixels(file: BinaryIO, size: int, meta: Any, keywords: Sequence[str], *, bare: bool) -> Any:
    """Read up to the pixels, and see that as many bytes follow as they say.

    pydicom takes a header that ends early for a whole one, so the pixels' own tag has to be there.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    if bare:
        header = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=_at_pixels, specific_tags=None
        )
        header.file_meta = meta
    else:
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))
    start = file.tell()
    series = str(header.get("SeriesInstanceUID", "")) or None
    syntax = str(meta.TransferSyntaxUID)
    order: Literal["big", "little"] = "big" if syntax == BIG_ENDIAN else "little"
    element = file.read(12)
    group, number = (int.from_bytes(element[at : at + 2], order) for at in (0, 2))
    if (group << 16) + number != _PIXEL_DATA:
        raise Damaged("is damaged or cut short", series)
    at = 4 if syntax == IMPLICIT else 8
    length = int.from_bytes(element[at : at + 4], order)
    if length != 0xFFFFFFFF and start + at + 4 + length > size:
        raise Damaged("is cut short in its pixels", series)
    return header


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag == _PIXEL_DATA
