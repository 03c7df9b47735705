"""What a volume might have looked like: moved in the slice, bent, and of another brightness.

All slices of a volume move alike, because neighbours in the stack belong together: the slices are the channels
of one 2-D image. What happens is drawn first (:func:`draw`) and then applied (:func:`moved`, :func:`recoloured`),
so that it depends on nothing but the generator and the settings.

MONAI computes the transforms; it is imported with the first volume that one applies to, because that takes seconds.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from polysite.config.base import Section

Chance = Annotated[float, Field(ge=0, le=1)]


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"two factors above 0, the lower one first, not [{pair[0]:g}, {pair[1]:g}]")
    return pair


Factors = Annotated[tuple[float, float], AfterValidator(_rising)]


class Augment(Section):
    """How training volumes are changed; a probability of 0 is never.

    Mirror, rotation, scale from 0.75 to 1.25 and elastic deformation are the FedCRLD paper's; its other numbers
    are not known. Changes of brightness are not the paper's, and off by default.
    """

    mirror: Chance = Field(default=0.5, description="probability, for x and for y")
    rotation: Chance = Field(default=0.5, description="probability")
    rotation_deg: float = Field(default=30.0, ge=0, le=180, description="at most, either way")
    scale: Chance = Field(default=0.5, description="probability")
    scale_range: Factors = Field(default=(0.75, 1.25), description="of what is shown; above 1 enlarges")
    elastic: Chance = Field(default=0.25, description="probability")
    elastic_spacing: int = Field(default=32, ge=2, le=1024, description="voxels between two control points")
    elastic_shift: float = Field(
        default=3.0,
        ge=0,
        le=100,
        description="voxels that a control point moves along x and y, standard deviation",
    )
    bias_field: Chance = Field(default=0.0, description="probability")
    bias_strength: float = Field(
        default=0.3, ge=0, le=2, description="largest coefficient of the field's logarithm (cubic polynomial)"
    )
    gamma: Chance = Field(default=0.0, description="probability")
    gamma_range: Factors = Field(default=(0.7, 1.5), description="exponent of the brightness")
    noise: Chance = Field(default=0.0, description="probability")
    noise_std: float = Field(
        default=0.1, ge=0, le=10, description="largest standard deviation, in units of the prepared volume"
    )


@dataclass(frozen=True)
class Change:
    """What happens to one volume; the defaults are: nothing."""

    mirror: tuple[bool, bool] = (False, False)
    """Along x and y."""
    angle: float = 0.0
    """Radians."""
    scale: float = 1.0
    bend: int | None = None
    """Seed of the elastic deformation."""
    bias: int | None = None
    """Seed of the bias field."""
    gamma: float = 1.0
    noise: int | None = None
    """Seed of the noise."""


def draw(how: Augment, rng: np.random.Generator) -> Change:
    """A random change."""

    def happens(chance: float) -> bool:
        return bool(rng.random() < chance)

    def seed() -> int:
        return int(rng.integers(2**32))

    limit = math.radians(how.rotation_deg)
    return Change(
        mirror=(happens(how.mirror), happens(how.mirror)),
        angle=rng.uniform(-limit, limit) if happens(how.rotation) else 0.0,
        scale=rng.uniform(*how.scale_range) if happens(how.scale) else 1.0,
        bend=seed() if happens(how.elastic) else None,
        bias=seed() if happens(how.bias_field) else None,
        gamma=rng.uniform(*how.gamma_range) if happens(how.gamma) else 1.0,
        noise=seed() if happens(how.noise) else None,
    )


def moved(
    image: NDArray[np.float32], labels: NDArray[np.int64], change: Change, how: Augment
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Image and labels mirrored, turned, scaled and bent about the slices' centre, every slice alike.

    Parameters
    ----------
    image : NDArray of float32, (z, x, y)
        Interpolated linearly; its least value where nothing is known.
    labels : NDArray of int64, (z, x, y)
        Class indices, by the nearest voxel; 0 where nothing is known.

    Returns
    -------
    tuple of NDArray
        Of the same shapes; the arguments' own memory where nothing changes.
    """
    axes = tuple(axis for axis, mirrored in zip((1, 2), change.mirror, strict=True) if mirrored)
    if axes:
        image, labels = np.flip(image, axes), np.flip(labels, axes)
    if (change.angle, change.scale, change.bend) == (0.0, 1.0, None):
        return image, labels
    grid, low = _grid(image.shape[1:], change, how), image.min()
    image = _sampled(image - low, grid, "bilinear") + low
    return image, _sampled(labels.astype(np.float32), grid, "nearest").astype(np.int64)


def _grid(size: tuple[int, ...], change: Change, how: Augment) -> Any:
    """Where every voxel (x, y) comes from, in voxels from the centre."""
    from monai.transforms import AffineGrid, CenterSpatialCrop, RandDeformGrid
    from monai.transforms.utils import create_grid
    from torch import as_tensor
    from torch.nn.functional import interpolate

    grid = create_grid(size, dtype=np.float32, backend="torch")
    if change.bend is not None:
        deform = RandDeformGrid(how.elastic_spacing, (how.elastic_shift, how.elastic_shift))
        deform.set_random_state(change.bend)(size)
        # only the shifts are interpolated: torch's bicubic kernel makes waves of a voxel in a ramp
        shifts = as_tensor(deform.rand_mag * deform.random_offset)[None]
        dense = interpolate(shifts, scale_factor=how.elastic_spacing, mode="bicubic", align_corners=False)
        grid[:2] += CenterSpatialCrop(size)(dense[0])
    affine = AffineGrid(rotate_params=change.angle, scale_params=(1 / change.scale, 1 / change.scale))
    return affine(grid=grid)[0]


def _sampled(slices: NDArray[np.float32], grid: Any, mode: str) -> NDArray[np.float32]:
    """Slices (z, x, y) at the grid's places, 0 outside: z as the channels of one 2-D image."""
    from monai.transforms import Resample
    from torch import from_numpy

    resample = Resample(mode=mode, padding_mode="zeros", dtype=np.float32)
    sampled: NDArray[np.float32] = resample(from_numpy(np.ascontiguousarray(slices)), grid).numpy()
    return sampled


def recoloured(image: NDArray[np.float32], change: Change, how: Augment) -> NDArray[np.float32]:
    """An image (z, x, y) under a smooth bias field, with another gamma and with noise.

    The field multiplies what is above the image's least value, so that air stays air.
    """
    if change.bias is not None:
        from monai.transforms import RandBiasField

        field = RandBiasField(coeff_range=(-how.bias_strength, how.bias_strength), prob=1.0)
        low = image.min()
        image = field.set_random_state(change.bias)(image[None] - low)[0].numpy() + low
    if change.gamma != 1.0:
        from monai.transforms import AdjustContrast

        image = AdjustContrast(change.gamma)(image).numpy()
    if change.noise is not None:
        stream = np.random.default_rng(change.noise)
        std = np.float32(stream.uniform(0, how.noise_std))
        image = image + std * stream.standard_normal(image.shape, dtype=np.float32)
    return image
