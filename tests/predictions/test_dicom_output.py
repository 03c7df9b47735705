"""A result as DICOM lies where its source does, is the source's patient's, and says what it is."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from command import polysite, refused
from dicom_files import lps, ras, values, write_enhanced, write_series
from polysite.data.dicom.scan import scan
from polysite.data.dicom.volume import read_series
from polysite.image import Image
from polysite.predictions.dicom_images import TOP, write_images
from polysite.predictions.dicom_segments import write_segments

SHAPE = (12, 10, 7)
KEPT = ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber")


@pytest.fixture(params=["axial", "sagittal", "coronal", "oblique", "enhanced"])
def source(request, tmp_path):
    """A series, its stack and its image."""
    if request.param == "enhanced":
        write_enhanced(tmp_path / "in" / "all", order=[3, 0, 6, 1, 5, 2, 4])
    else:
        write_series(tmp_path / "in", affine=lps(request.param))
    image, stack = read_series(scan(tmp_path / "in").series[0])
    return image, stack, pydicom.dcmread(stack.slices[0].path)


def result(image: Image) -> Image:
    return image.with_array(np.random.default_rng(4).random(image.shape))


def written(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_images_lie_where_the_source_does_for_everyone_who_reads_them(source, tmp_path):
    image, stack, _ = source
    made = result(image)
    (tmp_path / "out").mkdir()
    write_images(tmp_path / "out", made, stack, title="Synthetic", about="Synthetic")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "out")))
    itk = reader.Execute()
    for index in ((0, 0, 0), (11, 0, 0), (0, 9, 0), (11, 9, 6)):
        place = np.array(itk.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose(place, (image.affine @ [*index, 1])[:3], atol=1e-3)
    stored = sitk.GetArrayFromImage(itk).T
    np.testing.assert_allclose(stored / TOP, made.array, atol=0.5001 / TOP)
    # and by the mapping that the files state, with pydicom alone and with our own reader
    for item in written(tmp_path / "out"):
        mapping = item.RealWorldValueMappingSequence[0]
        told = item.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        np.testing.assert_allclose(told.T, made.array[:, :, item.InstanceNumber - 1], atol=0.5001 / TOP)
    again, _ = read_series(scan(tmp_path / "out").series[0])
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-5)


def test_images_belong_to_the_patient_and_say_that_they_are_synthetic(source, tmp_path):
    image, stack, first = source
    (tmp_path / "out").mkdir()
    write_images(
        tmp_path / "out", result(image), stack, title="Synthetic T2w, not for diagnosis", about="by a network"
    )
    items = written(tmp_path / "out")
    assert len({item.SOPInstanceUID for item in items}) == len(items) == 7
    assert len({item.SeriesInstanceUID for item in items}) == 1
    for item, piece in zip(items, stack.slices, strict=True):
        for keyword in (*KEPT, "FrameOfReferenceUID"):
            assert item[keyword].value == first[keyword].value
        assert item.SeriesInstanceUID != first.SeriesInstanceUID
        assert item.SOPInstanceUID.startswith("2.25.")
        assert list(item.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
        assert item.BurnedInAnnotation == "NO"
        assert "not for diagnosis" in item.SeriesDescription
        assert item.SoftwareVersions.startswith("Polysite")
        reference = item.SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == piece.header.instance
        if piece.header.pixels.frames > 1:
            assert reference.ReferencedFrameNumber == piece.frame.index + 1
        # nothing else of the source: no acquisition, no institution, no operator
        assert item.EchoTime is None
        assert "ProtocolName" not in item


def test_a_lossy_source_is_told_of(tmp_path):
    def lossy(item, k):
        item.LossyImageCompression = "01"

    write_series(tmp_path / "in", change=lossy)
    image, stack = read_series(scan(tmp_path / "in").series[0])
    (tmp_path / "out").mkdir()
    write_images(tmp_path / "out", result(image), stack, title="a", about="b")
    assert {item.LossyImageCompression for item in written(tmp_path / "out")} == {"01"}


def labels(image: Image) -> Image:
    array = np.zeros(image.shape)
    array[2:6, 3:5, 1:4] = 4
    array[7:11, 1:9, 2:6] = 2
    array[7:8, 1:3, 6] = 2
    return image.with_array(array)


def test_segments_lie_where_the_source_does_and_have_names(source, tmp_path):
    image, stack, first = source
    made = labels(image)
    write_segments(
        tmp_path / "seg.dcm",
        made,
        stack,
        names={0: "background", 2: "MYO", 4: "scar"},
        about="about",
        device="run",
    )
    item = highdicom.seg.segread(tmp_path / "seg.dcm")
    for keyword in (*KEPT, "FrameOfReferenceUID"):
        assert item[keyword].value == first[keyword].value
    assert [segment.SegmentLabel for segment in item.SegmentSequence] == ["MYO", "scar"]
    assert item.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "74281007"
    assert item.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "Polysite"
    referenced = {
        r.ReferencedSOPInstanceUID for r in item.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced == {piece.header.instance for piece in stack.slices}
    assert "not for diagnosis" in item.SeriesDescription
    volume = item.get_volume(combine_segments=True)
    inverse = np.linalg.inv(ras(volume.affine))
    for number, value in ((1, 2), (2, 4)):
        voxels = np.argwhere(made.array == value)
        places = np.c_[voxels, np.ones(len(voxels))] @ image.affine.T
        index = places @ inverse.T
        np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
        found = volume.array[tuple(np.rint(index[:, :3]).astype(int).T)]
        assert (found == number).all()
        assert (volume.array == number).sum() == len(voxels)


def test_an_empty_segmentation_is_an_object_too(tmp_path):
    write_series(tmp_path / "in")
    image, stack = read_series(scan(tmp_path / "in").series[0])
    empty = image.with_array(np.zeros(SHAPE))
    write_segments(tmp_path / "s.dcm", empty, stack, names={0: "background", 1: "LV"}, about="a", device="d")
    assert not highdicom.seg.segread(tmp_path / "s.dcm").pixel_array.any()


# --- by the command -----------------------------------------------------------------------------------


def test_predict_writes_the_volume_and_the_series(trained, tmp_path):
    array, affine = values((24, 20, 9), 900), lps("oblique", (5.0, 5.5, 9.0))
    write_series(tmp_path / "in", array, affine)
    command = ("predict", trained, tmp_path / "in", tmp_path / "a.nii.gz", "--site", "bridge")
    done = polysite(*command, "--dicom", tmp_path / "out")
    assert done.status == 0, done.err
    assert done.out.split() == [str(tmp_path / "a.nii.gz"), str(tmp_path / "out")]
    nifti = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    again, _ = read_series(scan(tmp_path / "out").series[0])
    np.testing.assert_allclose(again.affine, ras(affine), atol=1e-3)
    np.testing.assert_allclose(again.array / TOP, sitk.GetArrayFromImage(nifti).T, atol=0.51 / TOP)
    refused(*command, "--dicom", tmp_path / "out", says=["--dicom", "not empty"], status=2)


def test_what_predict_refuses(trained, tmp_path):
    write_series(tmp_path / "in")
    site = ("--site", "abbey")  # which has two tasks
    refused("predict", trained, tmp_path / "in", tmp_path / "a.nii.gz", *site, says=["--task"], status=2)
    refused(
        "predict", trained, tmp_path / "in", tmp_path / "a", *site, says=["must end in .nii.gz"], status=2
    )
    write_series(tmp_path / "in", series="1.2.77", description="t2", name="b{:03d}")
    refused(
        "predict", trained, tmp_path / "in", tmp_path / "a.nii.gz", *site, says=["holds 2 series"], status=1
    )
    (tmp_path / "v.nii.gz").touch()
    refused(
        *("predict", trained, tmp_path / "v.nii.gz", tmp_path / "a.nii.gz", *site, "--dicom", tmp_path / "o"),
        says=["IN must be DICOM"],
        status=2,
    )
    assert not (tmp_path / "a.nii.gz").exists()
    assert not (tmp_path / "o").exists()
