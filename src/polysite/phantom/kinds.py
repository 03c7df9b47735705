"""The kinds of consortium: what is drawn, and who lists and writes its hospitals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from polysite.phantom import consortium as brain
from polysite.phantom.cardiac import centre
from polysite.phantom.cardiac import consortium as cardiac


class Site(Protocol):
    """What hospitals of every kind have."""

    @property
    def name(self) -> str: ...
    @property
    def manufacturer(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def field_t(self) -> float: ...
    @property
    def contrasts(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Kind:
    """A kind of consortium: its hospitals in order, and the function that writes it."""

    sites: Callable[[], Sequence[Site]]
    write: Callable[..., list[Path]]


KINDS: dict[str, Kind] = {
    "brain": Kind(brain.hospitals, brain.write_consortium),
    "cardiac": Kind(centre.centres, cardiac.write_consortium),
}
