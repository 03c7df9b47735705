"""The shading of a receive coil estimated and divided out (N4; Tustison et al., IEEE TMI 29:1310, 2010).

N4 looks at means over blocks of 4 to 6 mm inside the mask, which is all that a field so smooth needs. What is kept
is the field's logarithm on these blocks; between them it is interpolated linearly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.data.resample import sitk_image
from polysite.errors import DataError

VERSION = 1
"""Raised whenever the same volume and mask would get another field."""
BLOCK_MM = 4.0
ITERATIONS = (25, 25, 25)
"""At most, at each of three levels; the spline's mesh is refined by two from one to the next. A fourth level, usual
for brains without their skull, has followed tissue in place of the shading."""
CONVERGENCE = 0.001
SETTINGS = {"method": "n4", "block_mm": BLOCK_MM, "iterations": list(ITERATIONS), "convergence": CONVERGENCE}
"""For the sidecar."""


def log_field(
    array: NDArray[np.float32], spacing_mm: NDArray[Any], mask: NDArray[np.bool_]
) -> NDArray[np.float16]:
    """The logarithm of a volume's shading on blocks, with mean 0 over the mask's blocks.

    One thread: the same volume gives the same bits, on a machine with many processors too.

    Raises
    ------
    DataError
        If the mask holds no positive values to look at, or N4 fails.
    """
    import SimpleITK as sitk

    step = _step(spacing_mm)
    inside = mask & (array > 0)
    share = _block_means(inside.astype(np.float32), step)
    means = _block_means(np.where(inside, array, 0), step) / np.maximum(share, 1e-6)
    seen = share >= 0.5
    if seen.sum() < 100:
        raise DataError("has too few positive values inside its mask for a bias field; use bias: none")
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    n4.SetConvergenceThreshold(CONVERGENCE)
    affine = np.diag([*(spacing_mm * step), 1.0])
    image = sitk_image(np.where(seen, means, 0).astype(np.float32), affine)
    try:
        with _one_thread():
            n4.Execute(image, sitk_image(seen.astype(np.uint8), affine))
            field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    except RuntimeError as error:
        raise DataError(f"N4 did not run ({str(error).strip().splitlines()[-1]}); use bias: none") from error
    field = field - field[seen].mean()
    # away from the mask nothing holds the spline
    limited = np.clip(field, field[seen].min(), field[seen].max())
    return np.ascontiguousarray(limited, dtype=np.float16)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for all of ITK: the filters inside of N4 ask for as many as the process has by default."""
    from SimpleITK import ProcessObject

    usual = ProcessObject.GetGlobalDefaultNumberOfThreads()
    ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        ProcessObject.SetGlobalDefaultNumberOfThreads(usual)


def field_of(
    log: NDArray[np.float16], shape: tuple[int, ...], spacing_mm: NDArray[Any]
) -> NDArray[np.float32]:
    """The field at every voxel of the volume; dividing by it removes the shading."""
    step = _step(spacing_mm)
    # block i is centred on voxel (i + 1/2) step - 1/2
    whole = ndimage.affine_transform(
        log.astype(np.float32), 1 / step, 0.5 / step - 0.5, output_shape=shape, order=1, mode="nearest"
    )
    return np.asarray(np.exp(whole), dtype=np.float32)


def _step(spacing_mm: NDArray[Any]) -> NDArray[np.int_]:
    """Voxels of a block along each axis."""
    return np.maximum(1, np.ceil(BLOCK_MM / np.asarray(spacing_mm) - 0.3)).astype(int)


def _block_means(array: NDArray[Any], step: NDArray[np.int_]) -> NDArray[np.float64]:
    """Means over blocks; what a block lacks at the far end counts as 0."""
    padded = np.pad(array, [(0, int(-n % s)) for n, s in zip(array.shape, step, strict=True)])
    split = [part for n, s in zip(padded.shape, step, strict=True) for part in (n // s, s)]
    return np.asarray(padded.reshape(split).mean(axis=(1, 3, 5), dtype=np.float64))
