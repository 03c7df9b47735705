"""Short-axis stacks of a ball in a shell: image and labels as files, on any grid."""

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from heads import grid_affine
from polysite.data.case import Case
from polysite.image import Image, write_image

BASE_TO_APEX = np.array([-0.6, 0.6, -0.53])
"""Along a heart's long axis, to its apex: left, to the front, down."""


def short_axis(
    shape: tuple[int, int, int] = (41, 37, 9),
    spacing: tuple[float, float, float] = (1.5, 1.5, 8.0),
    codes: str = "RAS",
    along: NDArray[Any] = BASE_TO_APEX,
) -> NDArray[np.float64]:
    """An affine whose third axis of ``RAS`` lies along the heart; `codes` says how the array is stored."""
    z = -along / np.linalg.norm(along)
    y = np.array([0, 0, 1.0]) - z[2] * z
    y /= np.linalg.norm(y)
    turn = np.eye(4)
    turn[:3, :3] = np.column_stack([np.cross(y, z), y, z])
    # the letters, in the heart's own axes
    return turn @ grid_affine(shape, spacing, codes)


def ball(shape: tuple[int, int, int], affine: NDArray[Any], gain: int = 1) -> NDArray[np.float32]:
    """Labels: 1 a ball off the centre, 2 a shell around it, 3 a small ball beside; 0 elsewhere."""
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]

    def within(centre: tuple[float, ...], radius: float) -> NDArray[Any]:
        return np.linalg.norm(points - centre, axis=-1) < radius

    labels = np.where(within((2, -1, 3), 17), 2.0, 0.0)
    labels[within((2, -1, 3), 11)] = 1
    labels[within((-17, 3, 9), 7)] = 3
    return (gain * labels).astype(np.float32)


def write_heart(
    folder: Path,
    subject: str = "01",
    names: tuple[str, ...] = ("ED",),
    *,
    affine: NDArray[Any] | None = None,
    shape: tuple[int, int, int] = (41, 37, 9),
    label_affine: NDArray[Any] | None = None,
    site: str = "north",
) -> Case:
    """A case whose images are about 100 times their labels; a voxel far from the heart makes each one differ."""
    affine = short_axis(shape) if affine is None else affine
    images, labels = {}, {}
    for name in names:
        values = ball(shape, affine)
        tag = crc32(f"{site}/{subject}/{name}".encode())
        values.flat[tag % 97] = 3
        images[name] = folder / f"sub-{subject}" / f"sub-{subject}_{name}.nii.gz"
        labels[name] = folder / "labels" / f"sub-{subject}_{name}_dseg.nii.gz"
        write_image(Image((100 + tag % 97 / 10) * values, affine, name, 1, 2), images[name])
        own = affine if label_affine is None else label_affine
        write_image(Image(values, own, None, 1, 2), labels[name], dtype="uint8")
    return Case(site, subject, None, images, folder, labels=labels)
