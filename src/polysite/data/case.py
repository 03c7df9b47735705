"""One visit of one subject: which file holds which contrast."""

import re
from dataclasses import dataclass
from pathlib import Path

from polysite.errors import DataError


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
    """

    site: str
    subject: str
    session: str | None
    images: dict[str, Path]
    root: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The case's name: ``sub-01``, or ``sub-01_ses-x``."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")
