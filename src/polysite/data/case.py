"""One visit of one subject: which file holds which contrast, and which its labels."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from polysite.errors import DataError
from polysite.image import Image, read_image


def label_of(text: str, prefix: str = "sub") -> str:
    """A BIDS label: letters and digits, without its prefix.

    >>> label_of("sub-01"), label_of("IXI002-Guys-0828")
    ('01', 'IXI002Guys0828')

    Raises
    ------
    DataError
        If nothing is left.
    """
    label = re.sub(r"[^A-Za-z0-9]", "", text.strip().removeprefix(f"{prefix}-"))
    if not label:
        raise DataError(f"{text!r} has no letter or digit to name a subject or session by")
    return label


@dataclass(frozen=True)
class Case:
    """The images of one subject in one session.

    Attributes
    ----------
    site, subject : str
        Subject is a BIDS label, without ``sub-``.
    session : str or None
        Without ``ses-``.
    images : dict of str to Path
        Contrast to file, in the run's order of contrasts.
    root : Path or None
        The data set's folder; the same label under the same root is the same person.
    notes : tuple of str
        Files that were passed over, and why.
    labels : dict of str to Path
        Contrast to the file of its label image; a contrast without one is not in it.
    frames : dict of str to int
        Contrast to its frame, from 0, where its files are 4-D.
    masks : dict of str to Path
        Contrast to the file of its mask, where masks are given.
    part : str or None
        The contrast, if the case is one image of a larger case.
    """

    site: str
    subject: str
    session: str | None
    images: dict[str, Path]
    root: Path | None = None
    notes: tuple[str, ...] = ()
    labels: dict[str, Path] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    part: str | None = None
    masks: dict[str, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The case's name: ``sub-01``, ``sub-01_ses-x``, or ``sub-01_ED`` of a part."""
        session = f"_ses-{self.session}" if self.session else ""
        return f"sub-{self.subject}{session}" + (f"_{self.part}" if self.part else "")

    def parts(self) -> "list[Case]":
        """Each image as a case of its own, as segmentation takes them."""
        return [
            replace(
                self,
                images={name: path},
                labels={name: self.labels[name]} if name in self.labels else {},
                masks={name: self.masks[name]} if name in self.masks else {},
                part=name,
                notes=(),
            )
            for name, path in self.images.items()
        ]

    def image(self, contrast: str) -> Image:
        """Read a contrast: its frame, where the file holds several.

        Raises
        ------
        DataError
            If the file cannot be read, or has no such frame.
        """
        return _frame(read_image(self.images[contrast], contrast), self.frames.get(contrast))

    def label_image(self, contrast: str) -> Image | None:
        """Read a contrast's label image as it is stored, the same frame of it; None if it has none."""
        if contrast not in self.labels:
            return None
        return _frame(read_image(self.labels[contrast], contrast), self.frames.get(contrast))

    def mask_image(self, contrast: str) -> Image:
        """Read a contrast's given mask as it is stored.

        Raises
        ------
        DataError
            If none is given.
        """
        if contrast not in self.masks:
            raise DataError(
                f"{self.images[contrast]}: no mask is given for it, but prepare.mask is 'given'; `masks` of a data "
                "section names them"
            )
        return _frame(read_image(self.masks[contrast], contrast), self.frames.get(contrast))


def _frame(image: Image, index: int | None) -> Image:
    """One frame of a 4-D image; an image of one volume stays as it is."""
    if index is None or image.array.ndim < 4 or image.shape[3] == 1:
        return image
    n_frames = image.shape[3]
    if not 0 <= index < n_frames:
        raise DataError(f"{image.path}: has {n_frames} frames, none with index {index}; check `first_frame`")
    return replace(image, array=np.ascontiguousarray(image.array[:, :, :, index]))
