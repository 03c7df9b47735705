"""The slices of a label image that the report draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.data.orient import canonical_affine, slices_of, to_canonical

PLACES = ("base", "middle", "apex")
WINDOW = (1.0, 99.0)
"""Percentiles of the drawn slices that are shown black and white."""


def write_outlines(
    path: Path,
    *,
    image: NDArray[np.float32],
    truth: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    affine: NDArray[np.float64],
    names: Mapping[int, str],
    subject: str,
) -> None:
    """Keep up to three slices of an image with its true and predicted labels.

    Parameters
    ----------
    image, truth, predicted : array (x, y, z)
        On one native grid; labels have the values of ``names``.
    affine : array (4, 4)
        Of that grid.
    names : mapping of int to str
        Value -> class, background included.
    """
    orientation = slices_of(affine, image.shape)
    oriented = canonical_affine(affine, orientation, image.shape)[:3, :3]
    spacing = np.linalg.norm(oriented, axis=0)
    stacks = [to_canonical(array, orientation) for array in (image, truth, predicted)]
    chosen = shown_slices(stacks[1])
    shown, true, made = ([stack[..., index] for index in chosen] for stack in stacks)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            image=np.stack(shown).astype(np.float32),
            truth=np.stack(true).astype(np.uint16),
            predicted=np.stack(made).astype(np.uint16),
            window=np.percentile(np.stack(shown), WINDOW),
            slices=np.array(chosen),
            places=np.array(PLACES if len(chosen) == len(PLACES) else [""] * len(chosen)),
            values=np.array(list(names)),
            names=np.array(list(names.values())),
            spacing_mm=spacing[:2],
            sides=np.array(sides_of(oriented[:, 0])),
            subject=subject,
        )


def sides_of(direction: NDArray[np.float64]) -> tuple[str, str]:
    """What lies on the left and on the right of a picture across which an axis (RAS+) runs to the left.

    >>> sides_of(np.array([0.8, 0.3, 0.1])), sides_of(np.array([0.2, -0.9, 0.0]))
    (('R', 'L'), ('P', 'A'))
    """
    axis = int(np.argmax(np.abs(direction)))
    low, high = "LPI"[axis], "RAS"[axis]
    return (high, low) if direction[axis] > 0 else (low, high)


def shown_slices(truth: NDArray[np.integer[Any]]) -> list[int]:
    """Base, middle and apex of what is labelled, (x, y, z): a sixth, a half and five sixths of its height.

    The base is the end where more is labelled. Fewer than three labelled slices are all shown; without
    any it is the middle one.
    """
    areas = np.count_nonzero(truth, axis=(0, 1))
    labelled = np.flatnonzero(areas)
    if len(labelled) < len(PLACES):
        return labelled.tolist() or [truth.shape[2] // 2]
    chosen = [int(labelled[int(len(labelled) * part)]) for part in (1 / 6, 1 / 2, 5 / 6)]
    return chosen if areas[chosen[0]] >= areas[chosen[2]] else chosen[::-1]
