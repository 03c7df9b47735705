"""Nothing of a volume's geometry is lost, and no broken file goes unnoticed."""

import gzip
import stat
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polysite.errors import DataError
from polysite.image import Image, read_image, write_image


def oblique(turn: float = 0.3, spacing: tuple[float, float, float] = (0.7, 1.3, 4.0)) -> np.ndarray:
    """A rotated, anisotropic affine."""
    cosine, sine = np.cos(turn), np.sin(turn)
    affine = np.eye(4)
    affine[:3, :3] = [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]] @ np.diag(spacing)
    affine[:3, 3] = [-91.3, 40.7, 12.9]
    return affine


def some_image(affine: np.ndarray | None = None, **fields: object) -> Image:
    array = np.random.default_rng(1).normal(size=(5, 7, 3)).astype(np.float32)
    return Image(array, oblique() if affine is None else affine, **fields)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.floats(-3, 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    flip=st.booleans(),
    codes=st.sampled_from([(1, 1), (2, 0), (0, 1), (4, 2)]),
)
def test_written_and_read_again_twice_is_exact(tmp_path, turn, spacing, flip, codes):
    affine = oblique(turn, spacing) @ np.diag([-1 if flip else 1, 1, 1, 1])
    first, second = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    image = some_image(affine, sform_code=codes[0], qform_code=codes[1])
    write_image(image, first)
    once = read_image(first)
    write_image(once, second)
    again = read_image(second)
    # NIfTI holds single precision: 1e-4 mm for new numbers, nothing at all for those of a file
    np.testing.assert_allclose(once.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(again.affine, once.affine)
    np.testing.assert_array_equal(once.array, image.array)
    assert (again.sform_code, again.qform_code) == codes
    assert first.read_bytes() == second.read_bytes()


def test_a_qform_that_differs_from_the_sform_is_kept(tmp_path):
    nifti = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), oblique())
    nifti.set_qform(oblique(0.9), 1)
    nifti.set_sform(oblique(), 2)
    nifti.to_filename(tmp_path / "in.nii")
    write_image(read_image(tmp_path / "in.nii"), tmp_path / "out.nii.gz")
    written = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(written.get_qform(), nibabel.load(tmp_path / "in.nii").get_qform())
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "in.nii").affine)


def test_free_text_of_a_header_is_not_passed_on(tmp_path):
    nifti = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    nifti.header["descrip"] = b"Smith, John"
    nifti.to_filename(tmp_path / "in.nii")
    write_image(read_image(tmp_path / "in.nii"), tmp_path / "out.nii")
    assert b"Smith" not in (tmp_path / "out.nii").read_bytes()


def test_another_affine_wins_over_the_header_it_was_read_with(tmp_path):
    write_image(some_image(), tmp_path / "a.nii")
    moved = np.diag([2.0, 2.0, 2.0, 1.0])
    write_image(replace(read_image(tmp_path / "a.nii"), affine=moved), tmp_path / "b.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "b.nii").affine, moved)


def test_without_codes_the_place_is_kept_all_the_same(tmp_path):
    write_image(some_image(sform_code=0, qform_code=0), tmp_path / "a.nii")
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").affine, oblique(), atol=1e-4)


def test_a_unit_scale_sform_is_mended_from_the_voxel_size(tmp_path):
    nifti = nibabel.Nifti1Image(np.zeros((6, 6, 3), np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]))
    nifti.header["pixdim"][1:4] = (1.4, 1.4, 10)
    nifti.header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), 2)
    content = nifti.to_bytes()
    (tmp_path / "acdc.nii").write_bytes(content)
    header = nibabel.load(tmp_path / "acdc.nii").header
    assert tuple(header.get_zooms()) == pytest.approx((1.4, 1.4, 10), rel=1e-6)
    image = read_image(tmp_path / "acdc.nii")
    assert image.spacing_mm == pytest.approx((1.4, 1.4, 10), rel=1e-6)
    assert np.sign(np.diag(image.affine)[:3]).tolist() == [-1, -1, 1]
    assert "pixdim" in image.notes[0]


def test_the_same_image_gives_the_same_bytes_whatever_the_name(tmp_path):
    image = some_image()
    write_image(image, tmp_path / "one.nii.gz")
    write_image(image, tmp_path / "two.nii.gz")
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_integers_are_rounded_and_range_is_checked(tmp_path):
    write_image(some_image().with_array(np.full((2, 2, 2), 6.6)), tmp_path / "a.nii.gz", dtype="uint8")
    assert (read_image(tmp_path / "a.nii.gz").array == 7).all()
    with pytest.raises(DataError, match=r"b\.nii.*do not fit uint8"):
        write_image(some_image().with_array(np.full((2, 2, 2), 300)), tmp_path / "b.nii", dtype="uint8")
    assert not (tmp_path / "b.nii").exists()


def test_meta_image_and_nifti_place_a_voxel_alike(tmp_path):
    import SimpleITK as sitk

    write_image(some_image(), tmp_path / "a.nii")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / "a.mha"))
    meta = read_image(tmp_path / "a.mha", "T1w")
    np.testing.assert_allclose(meta.affine, oblique(), atol=1e-4)
    np.testing.assert_array_equal(meta.array, some_image().array)
    assert meta.contrast == "T1w"


@pytest.mark.parametrize("keep", [0, 5, 200, -400, -4])
def test_a_file_cut_short_is_named(tmp_path, keep):
    path = tmp_path / "cut.nii.gz"
    write_image(some_image(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.nii\.gz: unreadable or cut short"):
        read_image(path)


def test_one_changed_byte_in_a_gzip_file_is_noticed(tmp_path):
    path = tmp_path / "changed.nii.gz"
    with path.open("wb") as file, gzip.GzipFile("", "wb", 0, file, mtime=0) as packed:  # level 0: stored
        packed.write(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)).to_bytes())
    content = bytearray(path.read_bytes())
    content[-600] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"changed\.nii\.gz.*CRC"):
        read_image(path)


@pytest.mark.parametrize(("size", "says"), [(30_000, r"at most \d+ are read"), (40, "the file has 608")])
def test_a_header_that_promises_too_much_is_refused(tmp_path, size, says):
    content = bytearray(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes())
    content[42:48] = np.array([size] * 3, "<i2").tobytes()
    (tmp_path / "big.nii").write_bytes(content)
    with pytest.raises(DataError, match=rf"big\.nii.*its header promises \d+ bytes.*{says}"):
        read_image(tmp_path / "big.nii")


@pytest.mark.parametrize("name", ["none.nii.gz", "none.mha", "scan.dcm"])
def test_a_missing_file_or_another_format_is_named(tmp_path, name):
    with pytest.raises(DataError, match=name):
        read_image(tmp_path / name)


def test_text_under_an_image_name_is_refused(tmp_path):
    for name in ("text.nii", "text.mha"):
        (tmp_path / name).write_text("not an image, though it is longer than a header" * 20)
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)


def test_nan_is_left_for_the_check(tmp_path):
    array = np.zeros((2, 2, 2), np.float32)
    array[0, 0, 0] = np.nan
    write_image(Image(array, np.eye(4)), tmp_path / "nan.nii.gz")
    assert np.isnan(read_image(tmp_path / "nan.nii.gz").array).sum() == 1


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    write_image(some_image(), path)
    before = path.read_bytes()

    def full(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be written: No space left"):
        write_image(some_image().with_array(np.zeros((2, 2, 2))), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path):
    path = tmp_path / "a.nii"
    write_image(some_image(), path)
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
