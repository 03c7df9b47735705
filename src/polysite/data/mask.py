"""Which voxels show the head (or the brain, where the skull was removed)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.config.prepare import Mask as MaskKind

Mask = NDArray[np.bool_]

VERSION = 1
"""Raised whenever the same volume would get another mask."""


def largest_component(mask: Mask) -> Mask:
    """The largest set of voxels connected by faces."""
    labels, n = ndimage.label(mask)
    if n <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def is_brain_extracted(array: NDArray[np.float32]) -> bool:
    """Whether the background was set to exactly zero by cutting through the image.

    Noise may be zero here and there, and scanners may zero it around a head. But noise is speckled, and
    around a head the values fade towards the zeros, while removing the skull cuts through tissue. So:
    the zeros that reach the border are at least a tenth of the voxels; opening the rest by a voxel in the
    slice plane takes less than 2 % of it; and the median value along its edge is above a twelfth of the
    median inside. On the scans this was set on that ratio is 0.18 to 1.2 with the skull removed, at most
    0.025 with the head.
    """
    inside = ndimage.binary_fill_holes(array != 0)
    n_inside = int(inside.sum())
    if n_inside == 0 or n_inside > 0.9 * inside.size:
        return False
    if ndimage.binary_opening(inside, _cross()).sum() < 0.98 * n_inside:
        return False
    edge = inside & ~ndimage.binary_erosion(inside, _cross(), border_value=1)
    if not edge.any():
        return False
    size = np.abs(array)
    return bool(np.median(size[edge]) > np.median(size[inside]) / 12)


def _cross() -> NDArray[np.bool_]:
    """A voxel and its neighbours in the plane of the first two axes, (3, 3, 3)."""
    structure = np.zeros((3, 3, 3), dtype=bool)
    structure[:, 1, 1] = structure[1, :, 1] = True
    return structure


def head_mask(array: NDArray[np.float32], spacing_mm: NDArray[Any]) -> Mask:
    """A head as scanned: Otsu's threshold, the largest component, closed and filled.

    The threshold is taken from the square root of slightly smoothed values, clipped at their 99th
    percentile: bright fat would otherwise pull it up, above the dark tissues.
    """
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(array, 1.0 / np.asarray(spacing_mm), mode="nearest")
    root = np.sqrt(np.clip(smooth, 0, max(float(np.percentile(smooth, 99)), 0.0)))
    if root.max() <= root.min():
        return np.ones(array.shape, dtype=bool)
    mask = largest_component(root > threshold_otsu(root.ravel()))
    radius = np.maximum(np.round(6.0 / np.asarray(spacing_mm)).astype(int), 0)
    closed = _close(mask, radius)
    for z in range(closed.shape[2]):
        closed[:, :, z] = ndimage.binary_fill_holes(closed[:, :, z])
    return np.asarray(ndimage.binary_fill_holes(closed))


def _close(mask: Mask, radius: NDArray[np.int_]) -> Mask:
    """Closing by an ellipsoid, through distances: the cost does not depend on the radius."""
    pad = [(int(r) + 1, int(r) + 1) for r in radius]
    sampling = 1.0 / np.maximum(radius, 0.5)
    wide = np.pad(mask, pad)
    grown = ndimage.distance_transform_edt(~wide, sampling=sampling) <= 1.0
    shrunk = ndimage.distance_transform_edt(grown, sampling=sampling) > 1.0
    inner = tuple(slice(low, size - high) for (low, high), size in zip(pad, wide.shape, strict=True))
    return np.asarray(shrunk[inner] | mask)


DEPTH_MM = 10.0
"""Skin and skull are at least this thick together."""
NECK_MM = 6.0
"""Bridges of tissue from the brain to what surrounds it are thinner than twice this."""
CLOSE_MM = 10.0
"""Width of fluid, dark in some contrasts, that is taken in with the brain around it."""
LEAST_PART = 0.06
"""Share of the largest part that another one, such as the cerebellum, must have."""


def brain_mask(array: NDArray[np.float32], spacing_mm: NDArray[Any]) -> Mask:
    """The brain in a scanned head, roughly: good enough for percentiles, not for measuring brains.

    Deep in the head what is at least half as bright as its median is tissue. Eroding parts it from eyes, muscles
    and scalp; the large parts that are left grow back, are closed and filled.
    """
    spacing = np.asarray(spacing_mm)
    smooth = ndimage.gaussian_filter(array, 0.7 / spacing, mode="nearest")
    # the head goes on beyond the last slices
    head = np.pad(head_mask(array, spacing), ((1, 1), (1, 1), (0, 0)))
    depth = ndimage.distance_transform_edt(head, sampling=spacing)[1:-1, 1:-1]
    inner = depth > DEPTH_MM
    deep = depth > 2.5 * DEPTH_MM
    if not inner.any():
        return np.asarray(inner)
    tissue = inner & (smooth > 0.5 * np.median(smooth[deep if deep.any() else inner]))
    core = ndimage.distance_transform_edt(tissue, sampling=spacing) > NECK_MM
    if not core.any():
        return np.asarray(inner)
    grown = ndimage.distance_transform_edt(~_large_parts(core), sampling=spacing) <= NECK_MM + 1.0
    closed = _close(grown & inner, np.maximum(np.round(CLOSE_MM / spacing).astype(int), 0))
    return np.asarray(ndimage.binary_fill_holes(closed))


def _large_parts(mask: Mask) -> Mask:
    """The components that are not small beside the largest."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(np.isin(labels, np.flatnonzero(sizes >= LEAST_PART * sizes.max())))


def foreground(array: NDArray[np.float32], spacing_mm: NDArray[Any], kind: MaskKind) -> tuple[Mask, str]:
    """The mask of a volume (x, y, z), and how it was found.

    That is ``head``, ``brain`` (the skull was removed before), ``found brain``, ``nonzero`` or ``none``.
    """
    if kind == "none":
        return np.ones(array.shape, dtype=bool), "none"
    if kind == "nonzero":
        return np.asarray(array != 0), "nonzero"
    if is_brain_extracted(array):
        return np.asarray(ndimage.binary_fill_holes(array != 0)), "brain"
    if kind == "brain":
        return brain_mask(array, spacing_mm), "found brain"
    return head_mask(array, spacing_mm), "head"
