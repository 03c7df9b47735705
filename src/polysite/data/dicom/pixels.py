"""The stored values of a file: plain and run-length encoded by pydicom, the JPEG family by SimpleITK's GDCM.

Foreign code never sees more than it needs: GDCM gets a file of the compressed picture and its size alone, so that
nothing it prints can name anyone.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.data.dicom.header import Header, Pixels
from polysite.data.dicom.reading import BIG_ENDIAN, DEFLATED, IMPLICIT, MR_IMAGE, Damaged, quiet, read_whole

EXPLICIT = "1.2.840.10008.1.2.1"
PLAIN = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
RLE = "1.2.840.10008.1.2.5"
JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
NAMES = {
    IMPLICIT: "implicit", EXPLICIT: "explicit", DEFLATED: "deflated", BIG_ENDIAN: "big endian", RLE: "RLE", **JPEG,
}  # fmt: skip
"""Transfer syntaxes that are read, in words."""

Values = NDArray[np.float32]


def values_of(path: Path, header: Header) -> Values:
    """A file's values after its rescale slope and intercept, (frame, row, column).

    The header's size must have been found acceptable before.

    Raises
    ------
    Damaged
        If the pixels are cut short, do not unpack, or are not as large as the header says.
    """
    pixels = header.pixels
    whole = read_whole(path)
    try:
        with quiet():
            if header.syntax in PLAIN:
                stored = _plain(whole.PixelData, pixels, big=header.syntax == BIG_ENDIAN)
            elif header.syntax == RLE:
                whole["PixelData"].VR = "OB"
                stored = np.asarray(whole.pixel_array)
            elif header.syntax in JPEG:
                stored = _jpeg(whole.PixelData, pixels, header.syntax)
            else:
                raise Damaged("is compressed in a way that is not read; export it uncompressed")
    except Damaged:
        raise
    except Exception:  # decoders fail on damaged bytes in any way
        raise Damaged("has pixels that cannot be unpacked") from None
    shape = (pixels.frames, pixels.rows, pixels.columns)
    if stored.size != np.prod(shape):
        raise Damaged("has pixels of another size than its header says")
    values = _as_signed(stored.reshape(shape), pixels).astype(np.float32)
    slopes, intercepts = (
        np.array([getattr(frame, name) for frame in header.frames], np.float32)[:, None, None]
        for name in ("slope", "intercept")
    )
    return np.asarray(values * slopes + intercepts, dtype=np.float32)


def _plain(content: bytes, pixels: Pixels, *, big: bool) -> NDArray[Any]:
    n_bytes = pixels.frames * pixels.rows * pixels.columns * pixels.allocated // 8
    if len(content) - n_bytes not in (0, 1) or len(content) % 2:  # an odd length is filled up by one byte
        raise Damaged("has pixels of another size than its header says")
    if big and pixels.allocated == 8:
        raise Damaged("holds bytes in big endian words, which are not read")
    kind = f"{'>' if big else '<'}u{pixels.allocated // 8}"
    return np.frombuffer(content[:n_bytes], kind).astype(kind[1:])


def _as_signed(stored: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    """The bits that count, with their sign; others (overlays lay there once) are dropped."""
    spare = pixels.allocated - pixels.stored
    unsigned = stored.astype(f"i{pixels.allocated // 8}", copy=False).view(f"u{pixels.allocated // 8}")
    lifted = unsigned << np.array(spare, unsigned.dtype)
    if pixels.signed:
        lifted = lifted.view(f"i{pixels.allocated // 8}")
    return np.asarray(lifted >> np.array(spare, lifted.dtype))


# --- the JPEG family ----------------------------------------------------------------------------------


def _jpeg(content: bytes, pixels: Pixels, syntax: str) -> NDArray[Any]:
    from pydicom.encaps import generate_frames

    frames = []
    for frame in generate_frames(content, number_of_frames=pixels.frames):
        if _size_in(frame) != (pixels.rows, pixels.columns):
            raise Damaged("has pixels of another size than its header says")
        frames.append(_decoded(frame, pixels, syntax))
        if len(frames) > pixels.frames:
            break
    return np.stack(frames)


def _size_in(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a compressed picture claims, before a decoder believes it."""
    if frame[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: SIZ holds the grid and where the picture begins in it
        width, height, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
        return height - top, width - left
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 < len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        # start of frame, of JPEG (but for the tables among its numbers) and of JPEG-LS
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(
                frame[at + 7 : at + 9], "big"
            )
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _decoded(frame: bytes, pixels: Pixels, syntax: str) -> NDArray[Any]:
    """One compressed picture through GDCM."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="polysite-") as folder, _without_warnings(sitk):
        path = Path(folder) / "picture.dcm"
        _write_picture(path, frame, pixels, syntax)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        array = sitk.GetArrayFromImage(reader.Execute())
    if array.size != pixels.rows * pixels.columns or array.dtype.kind not in "iu":
        raise Damaged("has pixels of another size than its header says")
    return np.asarray(array).reshape(pixels.rows, pixels.columns)


@contextmanager
def _without_warnings(sitk: Any) -> Iterator[None]:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _write_picture(path: Path, frame: bytes, pixels: Pixels, syntax: str) -> None:
    """A DICOM file of one picture and nothing else."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import generate_uid

    bare = Dataset()
    bare.SOPClassUID, bare.SOPInstanceUID = MR_IMAGE, generate_uid(None)
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    bare.Rows, bare.Columns = pixels.rows, pixels.columns
    bare.BitsAllocated, bare.BitsStored, bare.HighBit = pixels.allocated, pixels.stored, pixels.high_bit
    bare.PixelRepresentation = int(pixels.signed)
    bare.PixelData = encapsulate([frame])
    bare["PixelData"].VR = "OB"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    bare.file_meta.MediaStorageSOPClassUID = MR_IMAGE
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    bare.save_as(path, enforce_file_format=True)
