"""A head of ellipsoids with marks left and right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BRIGHTNESS = {"T1w": (600, 900, 300, 800), "T2w": (500, 450, 1100, 300), "FLAIR": (400, 500, 100, 700)}
"""Scalp, brain, ventricles and a mark in the left half, for each contrast."""


def head(
    contrast: str, shape: tuple[int, int, int], affine: NDArray[Any], moved: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """The head sampled on a grid; `moved` maps a point of the image to the head's own point (mm, RAS+)."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    points = index @ affine[:3, :3].T + affine[:3, 3]
    if moved is not None:
        points = points @ moved[:3, :3].T + moved[:3, 3]

    def inside(centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[Any]:
        distance = np.sqrt((((points - centre) / np.asarray(radii)) ** 2).sum(-1))
        return 1 / (1 + np.exp(np.clip((distance - 1) * min(radii) * 1.5, -40, 40)))  # an edge of about 1 mm

    scalp, brain, ventricle, mark = BRIGHTNESS[contrast]
    volume = scalp * inside((0, 0, 0), (42, 50, 40))
    volume += (brain - scalp) * inside((0, 0, 2), (35, 42, 32))
    for side in (-1, 1):
        volume += (ventricle - brain) * inside((7 * side, 4, 6), (4, 14, 8))
    volume += (mark - brain) * inside((-20, 10, 5), (7, 6, 9))
    volume += (mark - brain) / 2 * inside((14, -22, -8), (6, 9, 6))
    volume[volume < 2] = 0
    return volume.astype(np.float32)


def grid_affine(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], codes: str = "RAS"
) -> NDArray[np.float64]:
    """An affine centred on the origin whose axes point as the three letters say."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (letter, size) in enumerate(zip(codes, spacing, strict=True)):
        row = "RLAPSI".index(letter) // 2
        affine[row, axis] = size * (1 if letter in "RAS" else -1)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine
