"""A series is one volume in its right place, or a message says why it is none."""

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_files import lps, ras, values, write_enhanced, write_series
from polysite.data.dicom.scan import scan
from polysite.data.dicom.volume import read_series
from polysite.errors import DataError


def read(folder):
    found = scan(folder)
    assert len(found.series) == 1
    return read_series(found.series[0])[0]


def refuses(folder, *words):
    with pytest.raises(DataError) as caught:
        read(folder)
    for word in words:
        assert word in str(caught.value)
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_every_voxel_is_where_itk_finds_it(tmp_path, orientation):
    affine = lps(orientation)
    write_series(tmp_path, affine=affine)
    image = read(tmp_path)
    np.testing.assert_allclose(image.affine, ras(affine), atol=1e-6)
    np.testing.assert_array_equal(image.array, values())
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    itk = reader.Execute()
    for index in ((0, 0, 0), (11, 3, 0), (2, 9, 6), (11, 9, 6)):
        place = itk.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((image.affine @ [*index, 1])[:3], np.array(place) * [-1, -1, 1], atol=1e-4)
        assert itk[index] == image.array[index]


def test_left_is_left(tmp_path):
    array = np.zeros((8, 8, 4), int)
    array[6:, :, :] = 100  # DICOM's x grows to the patient's left
    write_series(tmp_path, array, lps("axial"))
    image = read(tmp_path)
    bright = np.argwhere(image.array == 100).mean(axis=0)
    dark = np.argwhere(image.array == 0).mean(axis=0)
    # in RAS the left has the smaller coordinate
    assert (image.affine @ [*bright, 1])[0] < (image.affine @ [*dark, 1])[0]


def test_two_series_in_one_folder_are_told_apart(tmp_path):
    write_series(tmp_path, description="t1", name="a{:03d}")
    write_series(tmp_path, values((6, 8, 5)), lps("coronal"), description="t2", name="b{:03d}")
    (tmp_path / "notes.txt").write_text("not DICOM, though in the folder" * 9)
    found = scan(tmp_path)
    assert [series.n_frames for series in found.series] == [7, 5]
    assert (found.n_not_dicom, found.n_other, found.damaged) == (1, 0, [])
    assert read_series(found.series[1])[0].shape == (6, 8, 5)


@pytest.mark.parametrize("order", [None, [3, 0, 6, 1, 5, 2, 4]])
def test_an_enhanced_object_is_the_same_volume(tmp_path, order):
    write_enhanced(tmp_path / "all", order=order)
    image = read(tmp_path)
    np.testing.assert_allclose(image.affine, ras(lps("oblique")), atol=1e-6)
    np.testing.assert_array_equal(image.array, values() * 2 - 5)  # with its frames' slope and intercept
    # one file does as a folder does
    np.testing.assert_array_equal(read(tmp_path / "all").array, image.array)


def test_parameters_of_an_enhanced_object_are_found_in_its_groups(tmp_path):
    write_enhanced(tmp_path / "all")
    told = scan(tmp_path).series[0].first.parameters
    assert (told["EchoTime"], told["RepetitionTime"], told["FlipAngle"]) == (0.00375, 0.0082, 8)


def test_one_slice_is_as_thick_as_it_says(tmp_path):
    write_series(tmp_path, values((5, 4, 1)))
    assert read(tmp_path).spacing_mm == pytest.approx((0.9, 1.1, 3.0))


# --- what is no volume --------------------------------------------------------------------------------


def test_a_missing_slice(tmp_path):
    write_series(tmp_path, change=lambda item, k: k != 3)
    refuses(tmp_path, "a slice seems to be missing: slices 3 and 4 of 6 are 6 mm apart, others 3 mm")


def test_a_slice_that_is_there_twice(tmp_path):
    def same_place(item, k):
        if k == 2:
            item.ImagePositionPatient[2] -= 3

    write_series(tmp_path, change=same_place)
    refuses(tmp_path, "7 images lie at 6 places", "nothing tells them apart")


def test_a_copy_of_a_file_is_told_and_passed_over(tmp_path):
    first = write_series(tmp_path)[0]
    (tmp_path / "copy").write_bytes(first.read_bytes())
    image = read(tmp_path)
    assert image.shape == (12, 10, 7)
    assert image.notes == ("1 files are copies of others and were passed over",)


def test_two_orientations(tmp_path):
    write_series(tmp_path, series="1.2.9", name="a{:03d}")
    write_series(tmp_path, affine=lps("coronal"), series="1.2.9", name="b{:03d}")
    refuses(tmp_path, "2 orientations", "localizer")


def test_two_sizes(tmp_path):
    write_series(tmp_path, series="1.2.9", name="a{:03d}")
    write_series(tmp_path, values((6, 8, 5)), series="1.2.9", name="b{:03d}")
    refuses(tmp_path, "12×10 and 6×8")


@pytest.mark.parametrize(
    ("keyword", "first", "second"),
    [
        ("EchoTime", "12", "90"),
        ("TemporalPositionIdentifier", 1, 2),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
        ("InversionTime", "100", "900"),
    ],
)
def test_several_volumes_in_one_series_say_what_tells_them_apart(tmp_path, keyword, first, second):
    for number, value in enumerate((first, second)):

        def change(item, k, value=value, number=number):
            setattr(item, keyword, value)
            item.SOPInstanceUID = f"1.2.9.{number}.{k}"

        write_series(tmp_path, series="1.2.9", name=f"{number}-{{:03d}}", change=change)
    refuses(tmp_path, "14 images lie at 7 places", f"they differ in {keyword} (2 values)")


def test_two_echoes_in_an_enhanced_object(tmp_path):
    def change(frame, index):
        frame.MREchoSequence[0].EffectiveEchoTime = (10.0, 80.0)[index % 2]

    write_enhanced(tmp_path / "all", order=[0, 0, 1, 1, 2, 2], change=change)
    refuses(tmp_path, "6 images lie at 3 places", "EffectiveEchoTime (2 values)")


def change_of(keyword, value, only=None):
    def change(item, k):
        if only is None or k == only:
            setattr(item, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_of("PhotometricInterpretation", "MONOCHROME1"), "MONOCHROME2"),
        (change_of("ImageOrientationPatient", [1, 0, 0, 0, 0.5, 0]), "unit vectors"),
        (change_of("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "right angle"),
        (change_of("PixelSpacing", [0, 1]), "pixel spacing"),
        (change_of("PixelSpacing", [1.2, 0.9], only=2), "different pixel spacings"),
        (change_of("ImagePositionPatient", [0, 0, 0], only=0), "do not lie on a straight line"),
        (change_of("ImagePositionPatient", None, only=0), "lacks its position"),
        (change_of("RescaleSlope", "0"), "rescale slope of 0"),
        (change_of("PatientID", "P2", only=4), "different persons"),
        (change_of("HighBit", 15), "the highest at 15"),
        (change_of("BitsStored", 16, only=4), "store their values in different ways"),
    ],
)
def test_headers_that_make_no_volume(tmp_path, change, words):
    affine = lps("axial")
    affine[:3, 3] = [-31.5, 22.25, 0]
    write_series(tmp_path, affine=affine, change=change)
    refuses(tmp_path, words)


def test_a_sheared_stack(tmp_path):
    affine = lps("axial")
    affine[0, 2] = 0.9
    scale = np.linalg.norm(affine[:3, 2])

    def thick(item, k):
        item.SpacingBetweenSlices = f"{scale:.5g}"

    write_series(tmp_path, affine=affine, change=thick)
    refuses(tmp_path, "sheared")


def test_a_gap_that_the_header_tells_otherwise_is_a_note(tmp_path):
    write_series(tmp_path, change=change_of("SpacingBetweenSlices", "1.5"))
    assert "3 mm apart by their positions, 1.5 mm by the header" in read(tmp_path).notes[0]
