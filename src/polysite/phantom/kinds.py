"""The kinds of consortium: what is drawn, and who lists and writes its hospitals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from polysite.errors import DataError
from polysite.phantom import consortium as brain
from polysite.phantom.bids import Progress, require_free
from polysite.phantom.cardiac import centre
from polysite.phantom.cardiac import consortium as cardiac
from polysite.phantom.hospital import choose


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
    """A kind of consortium.

    Attributes
    ----------
    version : str
        Changes whenever the same arguments give other bytes.
    sites : callable
        Its hospitals, in order.
    write_site : callable
        Writes one: ``write_site(out, name, n_subjects=…, seed=…, voxel_mm=…, progress=…)``.
    endings : mapping of str to str
        What a run calls an image -> ending of its file; empty: both are one, as the hospital says.
    """

    version: str
    sites: Callable[[], Sequence[Site]]
    write_site: Callable[..., Path]
    endings: Mapping[str, str] = field(default_factory=dict)

    def site(self, name: str) -> Site:
        """A hospital by name.

        Raises
        ------
        DataError
            If there is none; the message lists them.
        """
        return choose(name, {site.name: site for site in self.sites()})

    def write(
        self,
        out: Path,
        *,
        n_sites: int,
        n_subjects: int = 6,
        seed: int = 7,
        voxel_mm: float | None = None,
        progress: Progress | None = None,
    ) -> list[Path]:
        """Write the first `n_sites` hospitals, each a BIDS data set of its own in ``out/<hospital>``.

        Raises
        ------
        DataError
            If there are fewer hospitals, or `out` exists and is not empty.
        """
        names = [site.name for site in self.sites()]
        if not 1 <= n_sites <= len(names):
            raise DataError(f"n_sites is {n_sites}, but there are 1 to {len(names)} phantom hospitals")
        require_free(out)
        return [
            self.write_site(
                out / name, name, n_subjects=n_subjects, seed=seed, voxel_mm=voxel_mm, progress=progress
            )
            for name in names[:n_sites]
        ]


KINDS: dict[str, Kind] = {
    "brain": Kind(brain.VERSION, brain.hospitals, brain.write_hospital),
    "cardiac": Kind(
        cardiac.VERSION,
        centre.centres,
        cardiac.write_centre,
        {"ED": "rec-ED_cine", "ES": "rec-ES_cine", "LGE": "LGE"},
    ),
}
