"""Registration of one contrast of a case to another, rigid or affine, by mutual information.

Mattes' mutual information (50 bins) is maximised over three rotations and three shifts, first on coarse
and then on finer copies of both volumes, by Powell's method: on thick slices the metric's gradient is too
rough to follow. An affine transform begins from the rigid one and follows the gradient (conjugate): Powell's
method loses its way among twelve parameters that undo one another. Everything is deterministic: one thread, a
fixed seed for the sampled voxels.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.config.prepare import Transform
from polysite.data.resample import Affine, sitk_image

VERSION = 2
"""Raised whenever the same volumes would get another transform."""
LEVELS_MM = (8.0, 4.0, 2.0, 1.0)
N_WITH_RIM = 2
"""Coarse levels at which a rim of background counts too; later the head alone does."""
N_SAMPLES = 100_000
SEED = 20_220
MARGIN_MM = 10.0
AFFINE_LEVELS = (1, 2, 3)
"""Levels at which an affine transform is sought; a coarser one does not know a stretch from a turn."""
LIMIT_MM, LIMIT_DEGREES, LIMIT_STRETCH = 60.0, 30.0, 0.1
"""What is credible between contrasts of one session; gradients are calibrated to a few per cent."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Registration:
    """The outcome.

    Attributes
    ----------
    transform : NDArray, (4, 4)
        Point of the fixed volume to the same anatomy's point in the moving one, mm, RAS+. The identity
        (trust the headers) if registering made the alignment worse.
    kind : str
        ``rigid`` or ``affine``: what the transform is; ``headers`` if it is the identity for that reason.
    information_before, information_after : float
        Mutual information in nats with the headers alone, and with the transform that was found.
    shift_mm, rotation_degrees, stretch : float
        Size of what was found: shift of the head's centre, rotation, and the largest change of a length (0.02:
        two per cent longer or shorter in some direction; 0 for a rigid transform).
    warning : str or None
        Why it, or its affine part, was not used.
    """

    transform: Affine
    kind: str
    information_before: float
    information_after: float
    shift_mm: float
    rotation_degrees: float
    stretch: float
    warning: str | None

    def record(self) -> dict[str, Any]:
        """For the sidecar."""
        return {**vars(self), "transform": self.transform.tolist()}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Registration":
        """The outcome from its record."""
        return cls(**{**record, "transform": np.asarray(record["transform"])})


def _coarse(
    array: NDArray[np.float32], affine: Affine, level_mm: float
) -> tuple[NDArray[np.float32], Affine]:
    """A smoothed copy with voxels of about the level's size; axes that are coarser already stay."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    step = np.maximum(1, np.round(level_mm / spacing)).astype(int)
    sigma = np.where(spacing < level_mm, 0.5 * level_mm / spacing, 0.0)
    smooth = ndimage.gaussian_filter(array, sigma, mode="nearest")
    start = ((np.asarray(array.shape) - 1) % step) // 2
    index = tuple(slice(int(first), None, int(by)) for first, by in zip(start, step, strict=True))
    coarse = affine.copy()
    coarse[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
    coarse[:3, :3] = affine[:3, :3] * step
    return np.ascontiguousarray(smooth[index]), coarse


def _matrix(found: Any) -> Affine:
    """A SimpleITK transform (points, LPS) as a matrix (points, RAS+)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(found.GetMatrix(), (3, 3))
    centre = np.asarray(found.GetCenter())
    matrix[:3, 3] = np.asarray(found.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return np.asarray(_LPS @ matrix @ _LPS)


def _centre_of_mass(image: Any) -> NDArray[np.float64]:
    """Where a SimpleITK image's values have their centre, mm, LPS."""
    import SimpleITK as sitk

    values = sitk.GetArrayFromImage(image)
    values -= values.min()
    weights = values if values.any() else np.ones_like(values)
    index = ndimage.center_of_mass(weights)[::-1]
    return np.asarray(image.TransformContinuousIndexToPhysicalPoint([float(place) for place in index]))


class _Pyramid:
    """Both volumes at every level, as SimpleITK images, with the fixed head's mask."""

    def __init__(
        self,
        fixed: NDArray[np.float32],
        fixed_affine: Affine,
        mask: NDArray[np.bool_],
        moving: NDArray[np.float32],
        moving_affine: Affine,
    ) -> None:
        spacing = np.linalg.norm(fixed_affine[:3, :3], axis=0)
        # the outline pulls from afar, but fat is shifted between contrasts, so it must not decide in the end
        near = ndimage.distance_transform_edt(~mask, sampling=spacing) <= MARGIN_MM
        inside = np.argwhere(mask).mean(axis=0) if mask.any() else (np.asarray(mask.shape) - 1) / 2
        self.centre = fixed_affine[:3, :3] @ inside + fixed_affine[:3, 3]
        rim, head = (sitk_image(part.astype(np.uint8), fixed_affine) for part in (near, mask))
        self.rim = rim
        self.masks = [rim if level < N_WITH_RIM else head for level in range(len(LEVELS_MM))]
        self.levels = [
            (sitk_image(*_coarse(fixed, fixed_affine, mm)), sitk_image(*_coarse(moving, moving_affine, mm)))
            for mm in LEVELS_MM
        ]

    def with_rim(self) -> "_Pyramid":
        """The same where the rim counts at every level: inside the head alone nothing holds its size."""
        wide = copy(self)
        wide.masks = [self.rim] * len(LEVELS_MM)
        return wide

    def method(self, level: int, share: float | None) -> Any:
        """A registration method with the metric set up; `share` of the voxels is sampled, None: all."""
        import SimpleITK as sitk

        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(50)
        method.SetMetricFixedMask(self.masks[level])
        method.SetInterpolator(sitk.sitkLinear)
        if share is not None:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(share, SEED + level)
        return method

    def information(self, level: int, transform: Any) -> float:
        """Mutual information of a level's volumes over all voxels of its mask; 0 without overlap."""
        method = self.method(level, None)
        method.SetInitialTransform(transform)
        try:
            return -float(method.MetricEvaluate(*self.levels[level]))
        except RuntimeError:
            return 0.0

    def start(self) -> Any:
        """Where to begin: the headers' alignment, or the centres of mass aligned where that is better."""
        import SimpleITK as sitk

        euler = sitk.Euler3DTransform()
        euler.SetCenter([float(place) for place in (_LPS[:3, :3] @ self.centre)])
        shifted = sitk.Euler3DTransform(euler)
        fixed, moving = (_centre_of_mass(image) for image in self.levels[0])
        shifted.SetTranslation([float(shift) for shift in moving - fixed])
        return max((euler, shifted), key=lambda start: self.information(0, start))

    def climb(self, level: int, transform: Any) -> Any:
        """The transform improved at one level, as what it is: rigid or affine."""
        import SimpleITK as sitk

        fixed, moving = self.levels[level]
        share = min(1.0, N_SAMPLES / fixed.GetNumberOfPixels())
        method = self.method(level, None if share == 1.0 else share)
        improved = type(transform)(transform)
        if isinstance(improved, sitk.AffineTransform):
            method.SetOptimizerAsConjugateGradientLineSearch(
                learningRate=1.0,
                numberOfIterations=50,
                convergenceMinimumValue=1e-6,
                convergenceWindowSize=10,
            )
        else:
            method.SetOptimizerAsPowell(
                numberOfIterations=20,
                maximumLineIterations=30,
                stepLength=0.25 * LEVELS_MM[level],
                stepTolerance=0.005 * LEVELS_MM[level],
                valueTolerance=1e-6,
            )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(improved, inPlace=True)
        method.Execute(fixed, moving)
        return improved


def register(
    fixed: NDArray[np.float32],
    fixed_affine: Affine,
    mask: NDArray[np.bool_],
    moving: NDArray[np.float32],
    moving_affine: Affine,
    *,
    kind: Transform = "rigid",
) -> Registration:
    """Find the transform between two contrasts of one head.

    Parameters
    ----------
    fixed, moving : NDArray of float32, (x, y, z)
        Volumes without NaN; very bright voxels are best clipped.
    fixed_affine, moving_affine : NDArray, (4, 4)
        Voxel to mm, RAS+.
    mask : NDArray of bool
        The head in the fixed volume.
    kind : str
        ``rigid``, or ``affine``: the rigid transform is improved further; it stays where that gains nothing.
    """
    import SimpleITK as sitk

    pyramid = _Pyramid(fixed, fixed_affine, mask, moving, moving_affine)
    finest = len(LEVELS_MM) - 1
    headers = sitk.Euler3DTransform()
    headers.SetCenter([float(place) for place in (_LPS[:3, :3] @ pyramid.centre)])
    before = pyramid.information(finest, headers)
    found, warning = headers, None
    try:
        found = pyramid.start()
        for level in range(len(LEVELS_MM)):
            found = pyramid.climb(level, found)
    except RuntimeError as error:
        found, warning = headers, f"did not run ({_reason(error)}), so the headers' alignment was kept"
    after = pyramid.information(finest, found)
    size = size_of(_matrix(found), pyramid.centre)
    if warning is None:
        warning = _objection(before, after, size, "the headers' alignment was kept")
    used = "headers" if warning else "rigid"
    if kind == "affine" and used == "rigid":
        wider, warning = _affine(pyramid.with_rim(), found)
        if wider is not found:
            found, used = wider, "affine"
            after = pyramid.information(finest, found)
            size = size_of(_matrix(found), pyramid.centre)
    return Registration(
        transform=np.eye(4) if used == "headers" else _matrix(found),
        kind=used,
        information_before=before,
        information_after=after,
        shift_mm=size[0],
        rotation_degrees=size[1],
        stretch=size[2] if used == "affine" else 0.0,
        warning=warning,
    )


def _affine(pyramid: _Pyramid, rigid: Any) -> tuple[Any, str | None]:
    """A rigid transform improved to an affine one, or as it is, and why if there was trouble."""
    import SimpleITK as sitk

    finest, kept = len(LEVELS_MM) - 1, "the rigid transform was kept"
    found = sitk.AffineTransform(3)
    found.SetCenter(rigid.GetCenter())
    found.SetMatrix(rigid.GetMatrix())
    found.SetTranslation(rigid.GetTranslation())
    try:
        for level in AFFINE_LEVELS:
            found = pyramid.climb(level, found)
    except RuntimeError as error:
        return rigid, f"did not run as affine ({_reason(error)}), so {kept}"
    before, after = (pyramid.information(finest, transform) for transform in (rigid, found))
    if after <= before:  # nothing to gain is no trouble
        return rigid, None
    objection = _objection(before, after, size_of(_matrix(found), pyramid.centre), kept)
    return (rigid, objection) if objection else (found, None)


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]


def size_of(transform: Affine, centre: NDArray[np.float64]) -> tuple[float, float, float]:
    """How far a transform shifts a point (mm), its rotation (degrees), and its largest change of a length.

    Rotation and stretch are the factors of the polar decomposition: a matrix is a rotation times a stretch.
    """
    matrix = transform[:3, :3]
    u, lengths, v = np.linalg.svd(matrix)
    shift = float(np.linalg.norm(matrix @ centre + transform[:3, 3] - centre))
    cosine = (np.trace(u @ v) - 1) / 2
    rotation = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return shift, rotation, float(np.abs(lengths - 1).max())


def _objection(before: float, after: float, size: tuple[float, float, float], kept: str) -> str | None:
    """Why a transform is not to be used: it gained nothing, or it is beyond what is credible."""
    shift, rotation, stretch = size
    if after <= before:
        return f"made the alignment worse, so {kept}"
    if shift > LIMIT_MM or rotation > LIMIT_DEGREES or stretch > LIMIT_STRETCH:
        stretched = f" and {100 * stretch:.0f} % of stretch" if stretch > LIMIT_STRETCH else ""
        return f"found {shift:.0f} mm and {rotation:.0f}°{stretched}, not credible, so {kept}"
    return None
