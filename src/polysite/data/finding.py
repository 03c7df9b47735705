"""What a check says, and what it remembers of a volume that it read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polysite.data.case import Case
from polysite.data.orient import canonical_affine, orientation_of
from polysite.data.resample import Grid
from polysite.image import Image

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One trouble.

    Attributes
    ----------
    level : str
        ``error``: preparing or training would fail or be wrong; ``warning``: look at it; ``note``: handled.
    site, case, contrast, message : str
        Where, and what; case and contrast are empty if it concerns more than one.
    """

    level: Level
    site: str
    case: str
    contrast: str
    message: str


@dataclass(frozen=True)
class Seen:
    """What is kept of a volume that was read."""

    case: Case
    contrast: str
    grid: Grid
    digest: str
    labels: Path | None = None
    """Of a label image its file."""

    @property
    def what(self) -> str:
        """What it is, in words."""
        return self.contrast if self.labels is None else f"labels of {self.contrast}"

    def serves_too(self, other: "Seen") -> bool:
        """Whether both are one label image for several images of a case."""
        return self.labels is not None and (self.case.key, self.labels) == (other.case.key, other.labels)


def digest_of_values(array: NDArray[Any]) -> str:
    """What tells volumes of other values apart."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def canonical_grid(image: Image) -> Grid:
    """The image's grid in canonical axes, so that another order of storage is no difference."""
    orientation = orientation_of(image.affine)
    order = np.argsort(orientation[:, 0])
    x, y, z = (int(image.shape[axis]) for axis in order)
    return Grid((x, y, z), canonical_affine(image.affine, orientation, image.shape))
