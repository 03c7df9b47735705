"""What comes back lies where the scan lay: left is left in nibabel and in SimpleITK, however a file is stored."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from heads import grid_affine, head
from polysite.config.prepare import Prepare
from polysite.data.case import Case
from polysite.data.prepare import prepare_case
from polysite.image import Image, write_image

SPHERES = {
    50.0: (-30.0, 0.0, 0.0),
    100.0: (0.0, 30.0, 0.0),
    150.0: (0.0, 0.0, 24.0),
    200.0: (18.0, -12.0, -9.0),
}
"""Brightness -> centre, mm in RAS+: left, anterior, superior, and one that is none of the others mirrored."""
RADIUS_MM = 7.0
SHAPE, SPACING = (40, 44, 30), (2.5, 2.5, 3.0)
STORED = ["RAS", "LAS", "LPS", "RPI", "PIR", "ASL", "oblique"]


def turned(affine: np.ndarray, degrees: float) -> np.ndarray:
    """The same axes after a turn about z and a smaller one about x."""
    for axes, angle in (((0, 1), degrees), ((1, 2), degrees / 2)):
        turn = np.eye(4)
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn[np.ix_(axes, axes)] = [[cosine, -sine], [sine, cosine]]
        affine = turn @ affine
    return affine


def stored_affine(how: str) -> np.ndarray:
    return (
        turned(grid_affine(SHAPE, SPACING, "LPS"), 20)
        if how == "oblique"
        else grid_affine(SHAPE, SPACING, how)
    )


def write_spheres(path: Path, affine: np.ndarray) -> Image:
    points = np.moveaxis(np.indices(SHAPE), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    array = np.zeros(SHAPE, np.float32)
    for value, centre in SPHERES.items():
        array[np.linalg.norm(points - centre, axis=-1) < RADIUS_MM] = value
    image = Image(array, affine, "T1w", 1, 2)
    write_image(image, path)
    return image


def centres(array: np.ndarray, to_ras: object) -> dict[float, np.ndarray]:
    """Where each sphere of a written volume in [-1, 1] lies, by a library's own idea of space."""
    parts, n = ndimage.label(array > -0.9)
    assert n == len(SPHERES)
    numbers = range(1, n + 1)
    brightest = np.argsort(ndimage.maximum(array, parts, numbers))
    at = ndimage.center_of_mass(array + 1, parts, numbers)
    return {value: to_ras(at[number]) for value, number in zip(SPHERES, brightest, strict=True)}


def by_nibabel(path: Path) -> dict[float, np.ndarray]:
    file = nibabel.load(path)
    return centres(file.get_fdata(), lambda at: (file.affine @ [*at, 1])[:3])


def by_simpleitk(path: Path) -> dict[float, np.ndarray]:
    file = sitk.ReadImage(str(path))
    return centres(
        sitk.GetArrayFromImage(file).T,
        lambda at: np.array([-1, -1, 1]) * file.TransformContinuousIndexToPhysicalPoint(list(map(float, at))),
    )


@pytest.mark.parametrize("spacing_mm", [(None, None, None), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("part", [None, "T1w"])
def test_what_comes_back_lies_where_the_scan_lay(tmp_path, how, spacing_mm, part):
    write_spheres(tmp_path / "in.nii.gz", stored_affine(how))
    case = Case("north", "01", None, {"T1w": tmp_path / "in.nii.gz"}, part=part)
    settings = Prepare(
        percentiles=(0, 100), mask="none", normalisation="range", spacing_mm=spacing_mm, axes=None
    )
    prepared = prepare_case(case, settings, tmp_path / "cache")
    out = tmp_path / "out.nii.gz"
    write_image(prepared.to_native(prepared.volume("T1w")), out)
    for library in (by_nibabel, by_simpleitk):
        for value, centre in library(out).items():
            np.testing.assert_allclose(centre, SPHERES[value], atol=1.0)
    one, other = (nibabel.load(tmp_path / name).header for name in ("in.nii.gz", "out.nii.gz"))
    for field in ("srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "pixdim"):
        np.testing.assert_array_equal(one[field], other[field])


@pytest.mark.parametrize("codes", ["LPS", "PIR"])
def test_after_registration_a_contrast_lies_where_the_reference_lay(make_case, tmp_path, codes):
    """A contrast of a head that had moved, stored in another order, comes back on the reference's own grid."""
    moved = turned(np.eye(4), 4)
    moved[:3, 3] = (3.0, -4.0, 2.0)
    source = make_case(T1w={"codes": codes}, T2w={"codes": "ASL", "shape": (40, 32, 36), "moved": moved})
    prepared = prepare_case(source, Prepare(registration="always"), tmp_path / "cache")
    out = tmp_path / "out.nii.gz"
    write_image(prepared.to_native(prepared.volume("T2w")), out)
    one, two = (sitk.ReadImage(str(path)) for path in (source.images["T1w"], out))
    assert one.GetDirection() == two.GetDirection()
    assert one.GetOrigin() == two.GetOrigin()
    there, back = nibabel.load(source.images["T1w"]), nibabel.load(out)
    np.testing.assert_array_equal(there.affine, back.affine)
    truth = head("T2w", there.shape, there.affine)
    assert np.corrcoef(truth.ravel(), back.get_fdata().ravel())[0, 1] > 0.99
    points = np.moveaxis(np.indices(there.shape), 0, -1) @ there.affine[:3, :3].T + there.affine[:3, 3]
    dark, mirrored = (np.linalg.norm(points - (side * 20, 10, 5), axis=-1) < 5 for side in (-1, 1))
    assert back.get_fdata()[dark].mean() < back.get_fdata()[mirrored].mean() - 0.1  # the mark is on the left
