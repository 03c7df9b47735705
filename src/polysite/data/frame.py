"""A window of fixed size on slices: cropped where the image is larger, padded where it is smaller."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKGROUND = -1.0


@dataclass(frozen=True)
class Window:
    """A rectangle on the slices (x, y) of a volume, which may stick out of them.

    Attributes
    ----------
    shape : (int, int)
        Size of the volume's slices.
    start : (int, int)
        First voxel; negative where the window sticks out.
    size : (int, int)
        Size of the window.
    """

    shape: tuple[int, int]
    start: tuple[int, int]
    size: tuple[int, int]

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The common part in the volume's own and in the window's indices."""
        inside, window = [], []
        for n, start, size in zip(self.shape, self.start, self.size, strict=True):
            low, high = max(0, start), max(0, min(n, start + size))
            inside.append(slice(low, max(low, high)))
            window.append(slice(low - start, max(low, high) - start))
        return (inside[0], inside[1]), (window[0], window[1])

    def cut(
        self, slices: NDArray[Any], out: NDArray[Any] | None = None, *, fill: float = BACKGROUND
    ) -> NDArray[Any]:
        """The window's part of slices (..., x, y), padded with `fill`; written into `out` if given."""
        if out is None:
            out = np.empty((*slices.shape[:-2], *self.size), dtype=slices.dtype)
        inside, window = self._overlap()
        if slices[..., inside[0], inside[1]].shape[-2:] != self.size:
            out[...] = fill
        out[..., window[0], window[1]] = slices[..., inside[0], inside[1]]
        return out


def bounding_box(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last-plus-one voxel of a mask (z, x, y) along x and y; the whole slice if it is empty."""
    box = []
    for axis in (1, 2):
        hit = np.flatnonzero(mask.any(axis=(0, 3 - axis)))
        box.append((int(hit[0]), int(hit[-1]) + 1) if len(hit) else (0, mask.shape[axis]))
    return box[0], box[1]


def about_centre(shape: tuple[int, ...], size: int | tuple[int, int]) -> Window:
    """A window of exactly `size` about the centre of a volume's slices; shape is (z, x, y)."""
    x, y = pair(size)
    return Window((shape[1], shape[2]), ((shape[1] - x) // 2, (shape[2] - y) // 2), (x, y))


def pair(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """A size (x, y); one number stands for both."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def centred(
    volume_shape: tuple[int, ...], mask: NDArray[np.bool_], image_size: int | tuple[int, int]
) -> Window:
    """A window of exactly `image_size` about the centre of the mask's bounding box, for training."""
    box, size = bounding_box(mask), pair(image_size)
    start = tuple((low + high - n) // 2 for (low, high), n in zip(box, size, strict=True))
    return Window((volume_shape[1], volume_shape[2]), (start[0], start[1]), size)


def frame(
    volume_shape: tuple[int, ...], mask: NDArray[np.bool_], image_size: int | tuple[int, int]
) -> Window:
    """A window about the mask that loses nothing of it, for prediction.

    Its sizes are those of training, or of the mask's bounding box where that is larger, rounded up to a
    multiple of 4 (networks halve them twice).

    Parameters
    ----------
    volume_shape : tuple of int
        (z, x, y)
    mask : NDArray of bool, (z, x, y)
        What must be inside.
    image_size : int or (int, int)
        Size of the training slices.
    """
    box = bounding_box(mask)
    x, y = (-(-max(n, high - low) // 4) * 4 for (low, high), n in zip(box, pair(image_size), strict=True))
    return centred(volume_shape, mask, (x, y))


def unframe(slices: NDArray[Any], window: Window) -> NDArray[np.float32]:
    """Slices of a window put back into whole slices, -1 outside: the inverse of `Window.cut`.

    Parameters
    ----------
    slices : NDArray, (..., window x, window y)
        Of the window's size.
    """
    whole = np.full((*slices.shape[:-2], *window.shape), BACKGROUND, dtype=np.float32)
    inside, part = window._overlap()
    whole[..., inside[0], inside[1]] = slices[..., part[0], part[1]]
    return whole
