"""Values are what was stored, however they were stored."""

import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from dicom_files import values, write_series
from polysite.data.dicom.scan import scan
from polysite.data.dicom.volume import read_series
from polysite.errors import DataError


def read(folder):
    found = scan(folder)
    assert found.damaged == []
    return read_series(found.series[0])[0]


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.5",
    ],
    ids=["implicit", "explicit", "big endian", "deflated", "RLE"],
)
def test_plain_and_packed(tmp_path, syntax):
    write_series(tmp_path, syntax=syntax)
    np.testing.assert_array_equal(read(tmp_path).array, values())


def packed(array, compressor):
    """Transfer syntax and code stream of a picture, made by ITK."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.dcm")
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(compressor)
        writer.SetFileName(path)
        writer.Execute(sitk.GetImageFromArray(array[None]))
        item = pydicom.dcmread(path)
    return item.file_meta.TransferSyntaxUID, next(generate_frames(item.PixelData, number_of_frames=1))


@pytest.mark.parametrize(("compressor", "signed"), [("JPEG2000", False), ("JPEG2000", True), ("JPEG", False)])
def test_the_jpeg_family(tmp_path, compressor, signed):
    array = values() - (2000 if signed else 0)
    kind = np.int16 if signed else np.uint16
    syntax, _ = packed(array[:, :, 0].T.astype(kind), compressor)

    def change(item, k):
        item.PixelData = encapsulate([packed(array[:, :, k].T.astype(kind), compressor)[1]])
        item["PixelData"].VR, item["PixelData"].is_undefined_length = "OB", True

    write_series(tmp_path, array, syntax=syntax, bits=(16, 16), signed=signed, change=change)
    np.testing.assert_array_equal(read(tmp_path).array, array)


def test_jpeg_ls(tmp_path):
    def change(item, k):
        item.file_meta = pydicom.dataset.FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.compress(JPEGLSLossless, generate_instance_uid=False)

    write_series(tmp_path, syntax=JPEGLSLossless, change=change)
    np.testing.assert_array_equal(read(tmp_path).array, values())


@pytest.mark.parametrize(
    ("bits", "signed", "low", "high"),
    [
        ((8, 8), False, 0, 256),
        ((16, 12), False, 0, 4096),
        ((16, 12), True, -2048, 2048),
        ((16, 16), False, 0, 65536),
        ((16, 16), True, -32768, 32768),
        ((32, 32), False, 0, 2**24),
    ],
)
def test_bits_and_signs(tmp_path, bits, signed, low, high):
    array = np.random.default_rng(3).integers(low, high, (5, 7, 3))
    write_series(tmp_path, array, bits=bits, signed=signed)
    np.testing.assert_array_equal(read(tmp_path).array, array)


def test_bits_above_the_stored_ones_do_not_count(tmp_path):
    def overlay(item, k):
        stored = np.frombuffer(item.PixelData, "<u2") | 0x5000
        item.PixelData = stored.tobytes()

    write_series(tmp_path, change=overlay)
    np.testing.assert_array_equal(read(tmp_path).array, values())


def test_each_slice_has_its_own_scale_and_that_is_told(tmp_path):
    def rescale(item, k):
        item.RescaleSlope, item.RescaleIntercept = str(k + 1), "-10"

    write_series(tmp_path, change=rescale)
    image = read(tmp_path)
    np.testing.assert_array_equal(image.array, values() * np.arange(1, 8) - 10)
    assert "rescale" in image.notes[0]


def test_a_compression_that_is_not_read(tmp_path):
    def change(item, k):
        item.PixelData = encapsulate([b"\0\0\1\xb3" * 30])
        item["PixelData"].VR, item["PixelData"].is_undefined_length = "OB", True

    write_series(tmp_path, syntax="1.2.840.10008.1.2.4.100", change=change)  # MPEG-2
    with pytest.raises(DataError, match="compressed in a way that is not read"):
        read(tmp_path)
