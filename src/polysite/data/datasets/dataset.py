"""The contract of a public data set: what is known of it, and how its visits are found in a folder.

A data set is a value of :class:`Dataset` in a file of its own, registered in ``polysite.registry``
(or by another package through the entry-point group ``polysite.datasets``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SITE = "site"
"""The key of ``where`` for what tells a data set's sites apart; every other key is a fact."""


@dataclass(frozen=True)
class Visit:
    """The images of one subject in one session.

    Attributes
    ----------
    subject, session : str, str or None
        As the data set calls them.
    site : str
        The value of the data set's site key.
    images, labels : mapping of str to Path
        The data set's contrast to its file, and to the file of its label image.
    frames : mapping of str to int
        Contrast to its frame, from 0, where files are 4-D (label images too).
    facts : mapping of str to str
        What else is known: group, vendor, grade, scanner, ...; empty where it is not known.
    notes : tuple of str
        Files that were passed over, and what was assumed.
    """

    subject: str
    session: str | None
    site: str
    images: Mapping[str, Path]
    labels: Mapping[str, Path] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def value(self, key: str) -> str:
        """The value of a key of ``where``: ``site``, or a fact; empty if it is not known of this visit."""
        return self.site if key == SITE else self.facts.get(key, "")


@dataclass(frozen=True)
class Skipped:
    """What was found and not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """What a folder holds of a data set."""

    visits: tuple[Visit, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that ``where`` may name: the site key, and facts that are known of some visit."""
        facts = dict.fromkeys(key for visit in self.visits for key, value in visit.facts.items() if value)
        return SITE, *facts


@dataclass(frozen=True)
class Dataset:
    """What is known of a public data set.

    Attributes
    ----------
    name, title : str
        As ``format`` names it, and in full.
    url, licence, citation : str
        The home page, the terms (``access``: how the files are had), and the paper to cite.
    layout : str
        What is expected on disk, as shown to a user; ends of lines count.
    contrasts : tuple of str
        The names of the images that it offers.
    site_key : str
        What tells its sites apart, in words.
    find : callable
        Takes the folder, gives what it holds; opens no image.
    labels : mapping of str to int
        Class to its value in the label images; empty if there are none.
    sites : tuple of str
        Values of the site key, where they are the same for everybody.
    pair : tuple of str, optional
        Source and target of the synthesis task in examples; None if it is for segmentation, or for neither.
    unpaired : str
        Why no two images of one visit can be paired; empty if they can.
    traps : tuple of str
        What is easily done wrong with it, and what is done about it here.
    """

    name: str
    title: str
    url: str
    access: str
    licence: str
    citation: str
    layout: str
    contrasts: tuple[str, ...]
    site_key: str
    find: Callable[[Path], Found]
    labels: Mapping[str, int] = field(default_factory=dict)
    sites: tuple[str, ...] = ()
    pair: tuple[str, str] | None = None
    unpaired: str = ""
    traps: tuple[str, ...] = ()
