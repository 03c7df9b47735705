"""Which series of a study shows which contrast: patterns on its description."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from polysite.config.sources import DicomData
from polysite.data.dicom.header import Header
from polysite.data.dicom.scan import Series
from polysite.data.dicom.series import Stack, stack_of
from polysite.errors import DataError

NOT_ACQUIRED = ("LOCALIZER", "MPR", "PROJECTION IMAGE", "MIP", "MIN IP", "REFORMATTED")


@dataclass(frozen=True)
class Chosen:
    """The series that shows a contrast.

    Attributes
    ----------
    stack : Stack
        Its slices in order.
    notes : tuple of str
        What was passed over for it, and why. A series is called by its number: its description is free text.
    """

    series: Series
    stack: Stack
    notes: tuple[str, ...]


def patterns_of(given: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """Patterns that a description must fit one of, and those (after ``!``) that it must not fit."""
    every = [pattern.lower() for pattern in ([given] if isinstance(given, str) else given)]
    return [p for p in every if not p.startswith("!")], [p[1:] for p in every if p.startswith("!")]


def fits(header: Header, given: str | Sequence[str]) -> bool:
    """Whether the description, or the protocol's name, fits."""
    texts = [text.lower() for text in (header.description, header.protocol) if text]
    wanted, unwanted = patterns_of(given)

    def fit(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(text, pattern) for text in texts for pattern in patterns)

    return fit(wanted) and not fit(unwanted)


def is_derived(header: Header) -> bool:
    """Whether a series was made from another one: a projection, a reformat, a localizer, a secondary capture."""
    kind = header.kind
    return "DERIVED" in kind[:1] or "SECONDARY" in kind[1:2] or any(word in NOT_ACQUIRED for word in kind)


def within(header: Header, where: Mapping[str, str]) -> bool:
    """Whether the acquisition has all the wanted parameters; texts may be patterns.

    >>> from types import SimpleNamespace as Some
    >>> within(Some(parameters={"MagneticFieldStrength": 3.0}), {"MagneticFieldStrength": "3"})
    True
    """
    for name, wanted in where.items():
        value = header.parameters.get(name, "")
        text = f"{value:g}" if isinstance(value, float) else value
        if not fnmatchcase(text.lower(), wanted.lower()):
            return False
    return True


def choose(
    study: Sequence[Series], data: DicomData, contrast: str
) -> tuple[Chosen | None, tuple[str, ...], tuple[str, ...]]:
    """The series of a study that shows a contrast.

    Of several that fit the one with most slices is taken, of equals the first.

    Returns
    -------
    chosen : Chosen or None
        None if none fits, or can be used.
    notes : tuple of str
        What was passed over, if nothing was chosen.
    errors : tuple of str
        Why the one that should be taken cannot be.
    """
    fitting = [series for series in study if fits(series.first, data.contrasts[contrast])]
    notes, errors = [], []
    usable = []
    for series in fitting:
        if not data.derived and is_derived(series.first):
            notes.append(
                f"{contrast}: series {series.number} was passed over: it is derived from another one"
            )
        elif not within(series.first, data.where):
            notes.append(f"{contrast}: series {series.number} was passed over: it does not fit `where`")
        else:
            usable.append(series)
    usable.sort(key=lambda series: -series.n_frames)
    for index, series in enumerate(usable):
        try:
            stack = stack_of(series)
        except DataError as error:
            if data.trouble == "refuse":
                errors.append(f"series {series.number} ({contrast}): {error}")
                break
            notes.append(f"{contrast}: series {series.number} was left out: {error}")
            continue
        others = usable[index + 1 :]
        notes += [f"{contrast}: series {o.number} was passed over for series {series.number}" for o in others]
        own = [f"{contrast}: {note}" for note in stack.notes]
        return Chosen(series, stack, (*notes, *own)), (), ()
    return None, tuple(notes), tuple(errors)
