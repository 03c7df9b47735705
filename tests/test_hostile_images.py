"""Files that lie, are damaged or swell: an error that names the file, never a hang, never a wrong image."""

import gzip
import resource
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polysite.bounded import TRAILING_BYTES
from polysite.errors import DataError
from polysite.image import Image, read_image, write_image

VALUES = np.random.default_rng(0).normal(100, 20, (6, 5, 4)).astype(np.float32)
AFFINE = np.array([[-1.5, 0.1, 0, 9], [0.1, 1.5, 0, -4], [0, 0, 3, 2], [0, 0, 0, 1.0]])
FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def nifti_bytes() -> bytes:
    return nibabel.Nifti1Image(VALUES, AFFINE).to_bytes()


def meta_bytes(folder: Path) -> bytes:
    path = folder / "whole.mha"
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(path), useCompression=False)
    return path.read_bytes()


def as_read(path: Path) -> Image | None:
    """The image, or None where it is refused by its name; any other exception goes through."""
    try:
        return read_image(path)
    except DataError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


@FUZZ
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_in_gzip_is_never_another_image(tmp_path, place, bit):
    content = bytearray(gzip.compress(nifti_bytes(), mtime=0))
    place %= len(content)
    content[place] ^= 1 << bit
    path = tmp_path / "x.nii.gz"
    path.write_bytes(content)
    image = as_read(path)
    if image is not None:  # some bits mean nothing: of gzip's own header, and of codes that are not used
        np.testing.assert_array_equal(image.array, VALUES)


@FUZZ
@given(place=st.integers(0, 351), value=st.integers(0, 255))
def test_any_byte_of_a_nifti_header_may_be_wrong(tmp_path, place, value):
    content = bytearray(nifti_bytes())
    content[place] = value
    path = tmp_path / "x.nii"
    path.write_bytes(content)
    image = as_read(path)
    if image is not None:
        assert np.isfinite(image.affine).all()
        assert abs(np.linalg.det(image.affine[:3, :3])) > 0


@FUZZ
@given(keep=st.integers(0, 900))
def test_a_shortened_file_is_refused(tmp_path, keep):
    for name, content in (("x.nii", nifti_bytes()), ("x.mha", meta_bytes(tmp_path))):
        path = tmp_path / name
        if keep < len(content):
            path.write_bytes(content[:keep])
            assert as_read(path) is None


@FUZZ
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_any_byte_of_a_meta_image_header_may_be_wrong(tmp_path, place, value):
    content = bytearray(meta_bytes(tmp_path))
    content[place % content.index(b"LOCAL")] = value
    path = tmp_path / "x.mha"
    path.write_bytes(content)
    image = as_read(path)
    if image is not None:
        assert image.array.size <= VALUES.size * 4
        assert np.isfinite(image.affine).all()


@pytest.mark.parametrize("entry", ["/etc/passwd", "../x.raw", "LIST", "x%03d.raw 1 3 1", "missing.raw"])
def test_a_meta_image_does_not_lead_out_of_its_folder(tmp_path, entry):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.raw").write_bytes(VALUES.tobytes())
    path = tmp_path / "folder" / "x.mhd"
    path.write_text(f"NDims = 3\nDimSize = 6 5 4\nElementType = MET_FLOAT\nElementDataFile = {entry}\n")
    assert as_read(path) is None


def test_a_meta_image_in_two_files_is_read(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(tmp_path / "x.mhd"), useCompression=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.mhd").array, VALUES.T)


@pytest.mark.parametrize("name", ["bomb.nii.gz", "bomb.mha"])
def test_a_bomb_is_refused_in_little_memory(tmp_path, name):
    """Gigabytes of zeros in a few megabytes, and a header that promises little, or too much."""
    path = tmp_path / name
    if name.endswith(".gz"):
        with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(nifti_bytes())
            for _ in range(512):
                packed.write(bytes(4 << 20))
    else:
        header = "ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = 4000 4000 4000\n"
        path.write_bytes(f"{header}ElementType = MET_FLOAT\nElementDataFile = LOCAL\n".encode() + bytes(999))
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import pathlib, sys, polysite.image; polysite.image.read_image(pathlib.Path(sys.argv[1]))",
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    assert done.returncode != 0
    assert "DataError" in done.stderr
    assert "MemoryError" not in done.stderr


def test_a_little_padding_behind_the_values_is_allowed(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes() + bytes(TRAILING_BYTES)))
    np.testing.assert_array_equal(read_image(path).array, VALUES)


def test_folders_links_and_locked_files_are_named(tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "loop.nii.gz").symlink_to(tmp_path / "loop.nii.gz")
    (tmp_path / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "loop", "gone"):
        assert as_read(tmp_path / f"{name}.nii.gz") is None


def test_blanks_and_other_letters_in_paths_are_no_trouble(tmp_path):
    path = tmp_path / "größe & co" / "a b'c.nii.gz"
    write_image(Image(VALUES, AFFINE), path)
    np.testing.assert_array_equal(read_image(path).array, VALUES)
