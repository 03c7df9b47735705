"""Slices as pictures in a page: anatomical display, cropped, as data URIs."""

import base64
import io
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL.Image import Resampling


def display(array: NDArray[Any]) -> NDArray[Any]:
    """A slice (x, y) of a RAS+ volume as rows and columns of a picture.

    Radiological convention: anterior is up, and the patient's left is on the right of the picture.
    """
    return array[::-1, ::-1].T


def crop_to(mask: NDArray[np.bool_], margins: tuple[int, int]) -> tuple[slice, slice]:
    """What holds a mask (x, y) and so many voxels around it; everything where the mask is empty."""
    if not mask.any():
        return slice(None), slice(None)
    edges = []
    for axis, margin in enumerate(margins):
        kept = np.flatnonzero(mask.any(axis=1 - axis))
        edges.append(slice(max(int(kept[0]) - margin, 0), int(kept[-1]) + margin + 1))
    return edges[0], edges[1]


def jpeg(values: NDArray[Any], size: tuple[int, int]) -> str:
    """Grey values in [0, 1] brought to a size (width, height) as a data URI: small, for many pictures of a glance."""
    levels = Picture.fromarray(np.ascontiguousarray(255 * np.clip(values, 0, 1), dtype=np.float32))
    scaled = np.asarray(levels.resize(size, Resampling.BILINEAR))
    file = io.BytesIO()
    Picture.fromarray(np.round(scaled).astype(np.uint8)).save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def png(values: NDArray[Any], *, colours: str | None = None) -> str:
    """An 8-bit PNG of values in [0, 1] as a data URI; grey, or a palette of a named colour map."""
    levels = np.round(255 * np.clip(values.astype(np.float64), 0, 1)).astype(np.uint8)
    picture = Picture.fromarray(np.ascontiguousarray(levels))
    if colours is not None:
        picture.putpalette(
            (colormaps[colours](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
        )
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
