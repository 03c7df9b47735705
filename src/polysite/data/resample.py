"""Grids in space, and bringing a volume from one to another by linear interpolation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Affine = NDArray[np.float64]
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie: shape (x, y, z) and affine (voxel to mm, RAS+)."""

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel size along each axis, (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def corners_mm(self) -> NDArray[np.float64]:
        """Places of the eight corner voxels, (8, 3)."""
        index = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1)
        return np.asarray((self.affine[:3, :3] @ index).T + self.affine[:3, 3])

    def same_as(self, other: "Grid", tolerance_mm: float = 0.05) -> bool:
        """Whether every voxel lies at the same place, within a tolerance below any scanner's precision."""
        return self.shape == other.shape and bool(
            np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max() <= tolerance_mm
        )

    def with_spacing(self, spacing_mm: tuple[float | None, float | None, float | None]) -> "Grid":
        """A grid of another voxel size (None: the same) about the same centre that covers all of this one.

        An axis whose size differs by less than headers are exact to (1e-4) stays as it is.
        """
        old = self.spacing_mm
        new = np.array(
            [size if wanted is None else wanted for wanted, size in zip(spacing_mm, old, strict=True)]
        )
        new = np.where(np.abs(new / old - 1) < 1e-4, old, new)
        shape = np.maximum(1, np.ceil(np.asarray(self.shape) * old / new - 1e-6)).astype(int)
        affine = self.affine.copy()
        affine[:3, :3] *= new / old
        centre = self.affine[:3, :3] @ ((np.asarray(self.shape) - 1) / 2) + self.affine[:3, 3]
        affine[:3, 3] = centre - affine[:3, :3] @ ((shape - 1) / 2)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def sitk_image(array: NDArray[Any], affine: Affine) -> Any:
    """A SimpleITK image of an array (x, y, z)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing([float(size) for size in spacing])
    image.SetDirection([float(cosine) for cosine in (lps[:3, :3] / spacing).ravel()])
    image.SetOrigin([float(place) for place in lps[:3, 3]])
    return image


def blur_for(
    array: NDArray[np.float32], spacing_mm: NDArray[Any], to_mm: NDArray[Any]
) -> NDArray[np.float32]:
    """Gaussian smoothing along the axes that get coarser, so that fine detail is not aliased.

    The width makes a voxel of the old size as wide as one of the new (full width at half maximum,
    variances subtracted); axes that do not get coarser are left alone.
    """
    ratio = np.maximum(to_mm / spacing_mm, 1.0)
    sigma = np.where(ratio > 1.05, np.sqrt(ratio**2 - 1) / 2.3548, 0.0)
    if not sigma.any():
        return array
    return np.asarray(ndimage.gaussian_filter(array, sigma, mode="nearest"), dtype=np.float32)


def resample(
    array: NDArray[np.float32],
    affine: Affine,
    grid: Grid,
    *,
    transform: Affine | None = None,
    fill: float = 0.0,
    nearest: bool = False,
) -> NDArray[np.float32]:
    """A volume's values at the voxels of another grid.

    Parameters
    ----------
    array : NDArray of float32, (x, y, z)
        Values.
    affine : NDArray, (4, 4)
        Of the array, voxel to mm, RAS+.
    grid : Grid
        Where values are wanted.
    transform : NDArray, (4, 4), optional
        From a point of the grid (mm, RAS+) to the same anatomy's point in the array's space.
    fill : float
        Value outside the array.
    nearest : bool
        Nearest neighbour in place of linear interpolation.

    Returns
    -------
    NDArray of float32
        Of the grid's shape. Where both grids have the same voxels the values are the same, bit for bit.
    """
    import SimpleITK as sitk

    if transform is None and Grid(_shape(array), affine).same_as(grid):
        return array
    moved = affine if transform is None else np.linalg.inv(transform) @ affine
    if not nearest:
        array = blur_for(array, np.linalg.norm(affine[:3, :3], axis=0), grid.spacing_mm)
    lps = _LPS @ grid.affine
    spacing = grid.spacing_mm
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetSize([int(n) for n in grid.shape])
    resampler.SetOutputSpacing([float(size) for size in spacing])
    resampler.SetOutputDirection([float(cosine) for cosine in (lps[:3, :3] / spacing).ravel()])
    resampler.SetOutputOrigin([float(place) for place in lps[:3, 3]])
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(float(fill))
    values = sitk.GetArrayFromImage(resampler.Execute(sitk_image(array, moved)))
    return np.ascontiguousarray(values.T)


def _shape(array: NDArray[Any]) -> tuple[int, int, int]:
    x, y, z = array.shape
    return x, y, z
