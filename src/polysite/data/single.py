"""What is done to one contrast on its own: orientation, mask, ringing, bias field, percentiles."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.config.prepare import Preparation
from polysite.data.bias import SETTINGS, field_of, log_field
from polysite.data.bias import VERSION as BIAS_VERSION
from polysite.data.mask import VERSION as MASK_VERSION
from polysite.data.mask import foreground
from polysite.data.mask_command import VERSION as COMMAND_VERSION
from polysite.data.mask_command import mask_by_command
from polysite.data.normalise import Scale, scale_of, without_ringing
from polysite.data.orient import Orientation, canonical_affine, orientation_of, slices_of, to_canonical
from polysite.data.resample import Affine, Grid
from polysite.data.steps import Outcome, Steps, packed, unpacked
from polysite.data.white_stripe import peak_for
from polysite.errors import DataError
from polysite.image import Image

LOOK = (0.0, 99.5)
"""Percentiles between which registration looks, whatever is clipped later: the normalisation does not move an image."""


@dataclass(frozen=True, eq=False)
class Oriented:
    """One contrast in the axes that the settings ask for, with what was measured on it.

    ``cut`` says whether what lies outside of the mask was made background.
    """

    image: Image
    orientation: Orientation
    array: NDArray[np.float32]
    grid: Grid
    mask: NDArray[np.bool_]
    scale: Scale
    cut: bool
    record: dict[str, Any]

    def look(self) -> NDArray[np.float32]:
        """What registration looks at: the values without the brightest."""
        values = self.array[self.mask] if self.mask.any() else self.array.ravel()
        low, high = (float(value) for value in np.percentile(values, LOOK))
        seen = np.where(self.mask, self.array, np.float32(low)) if self.cut else self.array
        return np.clip(seen, low, high)


def volume_of(image: Image) -> NDArray[np.float32]:
    """An image's array as (x, y, z); axes of length 1 beyond the third are dropped.

    Raises
    ------
    DataError
        If it is not one volume, or holds NaN or infinite values.
    """
    array = image.array
    if array.ndim < 3 or any(n > 1 for n in array.shape[3:]):
        raise DataError(
            f"{image.path}: must be one 3-D volume, but its shape is {array.shape}; {remedy_for(array)}"
        )
    if not np.isfinite(array).all():
        n_bad = int((~np.isfinite(array)).sum())
        raise DataError(f"{image.path}: has {n_bad} NaN or infinite values; repair or leave out the file")
    return array.reshape(array.shape[:3])


def remedy_for(array: NDArray[Any]) -> str:
    """What to do with an array that is not one volume."""
    if array.ndim < 3:
        return "store a single slice with a third axis of length 1"
    return "write one volume to a file of its own, or let `frames` of a table name it"


NOTHING_KEPT = Steps()


def oriented(
    image: Image,
    settings: Preparation,
    steps: Steps = NOTHING_KEPT,
    *,
    given: NDArray[np.bool_] | None = None,
) -> Oriented:
    """Do to an image what it needs no other contrast for.

    Parameters
    ----------
    image : Image
        One volume.
    settings : Preparation
        What to do.
    steps : Steps
        Where outcomes of slow steps are kept.
    given : NDArray of bool, optional
        The mask, in the order in which the image is stored, for ``mask: given``.
    """
    stored = volume_of(image)
    if settings.axes == "slices":
        orientation = slices_of(image.affine, stored.shape)
    else:
        orientation = orientation_of(image.affine)
    array = to_canonical(stored, orientation)
    x, y, z = array.shape
    grid = Grid((x, y, z), canonical_affine(image.affine, orientation, stored.shape))
    if given is not None:
        mask, kind = np.asarray(to_canonical(given, orientation)), "given"
    else:
        mask, kind = _mask(array, grid, settings, steps, image)
    array, negative = without_ringing(array)
    array, bias = _without_bias(array, mask, grid, settings, steps, image)
    if settings.normalisation == "white-stripe" and kind in {"head", "none"}:
        raise DataError(
            f"{image.path}: white-stripe looks for white matter, and this volume shows more than a brain; set "
            "mask: brain, or remove the skull"
        )
    peak = peak_for(image.contrast, settings.white_stripe)
    try:
        scale = scale_of(array, mask, settings.percentiles, settings.normalisation, peak)
    except DataError as error:
        raise DataError(f"{image.path}: {error}; leave out the file") from error
    clipped = _share_beyond(array[mask], scale)
    cut = kind not in {"head", "none"}
    if cut:
        array = np.where(mask, array, np.float32(scale.low))
    record = {
        "orientation": {"stored": _axis_codes(image.affine), "axes": orientation.tolist()},
        "negative": {"share": negative, "clipped": bool(negative > 0 and array.min() >= 0)},
        "mask": {"kind": kind, "share": float(mask.mean()), "ml": _volume_ml(mask, grid)},
        "bias": bias,
        "percentiles": {"percentiles": list(settings.percentiles), "clipped": clipped, **scale.record()},
        "notes": list(image.notes),
    }
    return Oriented(image, orientation, array, grid, mask, scale, cut, record)


def _mask(
    array: NDArray[np.float32], grid: Grid, settings: Preparation, steps: Steps, image: Image
) -> tuple[NDArray[np.bool_], str]:
    """The mask, and how it was found."""

    def by_command() -> Outcome:
        volume = Image(array, grid.affine, image.contrast)
        found = mask_by_command(volume, settings.mask_command, timeout_s=settings.mask_timeout_s)
        return {"mask": packed(found)}

    def make() -> Outcome:
        mask, kind = foreground(array, grid.spacing_mm, settings.mask)
        return {"kind": kind, "mask": packed(mask)}

    if settings.mask in {"nonzero", "none"}:  # done sooner than looked up
        return foreground(array, grid.spacing_mm, settings.mask)
    if settings.mask == "command":
        asked = {"array": array, "affine": grid.affine, "command": list(settings.mask_command)}
        try:
            return unpacked(steps.outcome("command", COMMAND_VERSION, asked, by_command)["mask"]), "command"
        except DataError as error:
            raise DataError(f"{image.path}: {error}") from error
    arguments = {"array": array, "spacing_mm": grid.spacing_mm, "kind": settings.mask}
    found = steps.outcome("mask", MASK_VERSION, arguments, make)
    return unpacked(found["mask"]), found["kind"]


def _without_bias(
    array: NDArray[np.float32],
    mask: NDArray[np.bool_],
    grid: Grid,
    settings: Preparation,
    steps: Steps,
    image: Image,
) -> tuple[NDArray[np.float32], dict[str, Any] | None]:
    """The array without its shading, and what that was; as it is where the settings do not ask for it."""
    if settings.bias == "none":
        return array, None
    if array.min() < 0:
        raise DataError(
            f"{image.path}: has negative values, so zero is not its background and there is no shading to divide "
            "out; use bias: none, or the images as scanned"
        )
    arguments: dict[str, Any] = {"array": array, "spacing_mm": grid.spacing_mm, "mask": mask}
    try:
        found = steps.outcome(
            "bias", BIAS_VERSION, arguments, lambda: {"log_field": packed(log_field(**arguments))}
        )
    except DataError as error:
        raise DataError(f"{image.path}: {error}") from error
    field = field_of(unpacked(found["log_field"]), array.shape, grid.spacing_mm)
    inside = field[mask] if mask.any() else field
    record = {**SETTINGS, "least": float(inside.min()), "most": float(inside.max())}
    return np.asarray(array / field, dtype=np.float32), record


def _volume_ml(mask: NDArray[np.bool_], grid: Grid) -> float:
    return float(mask.sum() * np.prod(grid.spacing_mm) / 1000)


def _share_beyond(values: NDArray[np.float32], scale: Scale) -> float:
    """The share of values that are clipped."""
    return float(((values < scale.low) | (values > scale.high)).mean()) if values.size else 0.0


def _axis_codes(affine: Affine) -> str:
    from nibabel import aff2axcodes

    return "".join(aff2axcodes(affine))
