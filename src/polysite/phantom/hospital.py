"""The consortium's hospitals: scanner, protocol of each contrast, and what is special about their images.

The tables are ``hospitals.csv`` and ``protocols.csv`` beside this file; every protocol row states its source.
The hospitals are inventions, the parameters are those of real examinations.
"""

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TypeVar

from polysite.errors import DataError

H = TypeVar("H")


@dataclass(frozen=True)
class Protocol:
    """How one contrast is acquired. Times in ms, angles in degrees, lengths in mm; None: does not apply.

    Attributes
    ----------
    contrast : str
        BIDS suffix.
    sequence : str
        A function of :mod:`polysite.phantom.signal`.
    tr_ms : float
        Repetition time; with an inversion, from inversion to inversion.
    te_ms, te_effective_ms : float
        Echo time as scanners state it, and the one with the same T2 weighting in a plain spin echo: they differ
        in 3-D echo trains with variable flip angles (Mugler, J Magn Reson Imaging 39:745, 2014).
    tr_header_ms, ti_header_ms : float
        What the vendor writes: some write the repetition time of the inner pulses, or the time from the
        inversion to the first pulse.
    ti_ms : float
        From the inversion to the centre of k-space.
    n_shots, shot_ms, train_ms
        Small-angle pulses after one inversion and their spacing; length of a spin-echo train.
    """

    contrast: str
    sequence: str
    tr_ms: float
    te_ms: float
    te_effective_ms: float
    tr_header_ms: float
    ti_header_ms: float | None
    ti_ms: float | None
    flip_deg: float
    n_shots: int | None
    shot_ms: float | None
    train_ms: float | None
    thickness_mm: float
    dimensions: str
    source: str


@dataclass(frozen=True)
class Hospital:
    """A hospital of the consortium.

    Attributes
    ----------
    field_t : float
        Tesla.
    in_plane_mm, spacing_mm : float
        Voxel size in the axial plane and distance between slices.
    gain : float
        Image units for a signal of one (all water, fully relaxed).
    snr : float
        White-matter signal over the noise's standard deviation, in each contrast.
    bias : float
        Strength of the receive coil's shading (log standard deviation).
    lesions : bool
        Its patients have white-matter lesions.
    """

    name: str
    manufacturer: str
    model: str
    field_t: float
    in_plane_mm: float
    spacing_mm: float
    gain: float
    snr: float
    bias: float
    lesions: bool
    protocols: tuple[Protocol, ...]

    @property
    def contrasts(self) -> tuple[str, ...]:
        """What it acquires, the reference for alignment first."""
        return tuple(protocol.contrast for protocol in self.protocols)

    def protocol(self, contrast: str) -> Protocol:
        """The protocol of a contrast.

        Raises
        ------
        DataError
            If the hospital does not acquire it.
        """
        for protocol in self.protocols:
            if protocol.contrast == contrast:
                return protocol
        raise DataError(
            f"{contrast!r} is not acquired at phantom hospital {self.name}; it has {', '.join(self.contrasts)}"
        )


def read_table(name: str, package: str = "polysite.phantom") -> list[dict[str, str]]:
    """The rows of a table beside a package's code."""
    with (files(package) / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    """A table's number; None for an empty cell."""
    return float(text) if text else None


def _protocol(row: dict[str, str]) -> Protocol:
    tr, te = float(row["tr_ms"]), float(row["te_ms"])
    return Protocol(
        contrast=row["contrast"],
        sequence=row["sequence"],
        tr_ms=tr,
        te_ms=te,
        te_effective_ms=number(row["te_effective_ms"]) or te,
        tr_header_ms=number(row["tr_header_ms"]) or tr,
        ti_header_ms=number(row["ti_header_ms"]) or number(row["ti_ms"]),
        ti_ms=number(row["ti_ms"]),
        flip_deg=float(row["flip_deg"]),
        n_shots=int(row["n_shots"]) if row["n_shots"] else None,
        shot_ms=number(row["shot_ms"]),
        train_ms=number(row["train_ms"]),
        thickness_mm=float(row["thickness_mm"]),
        dimensions=row["dimensions"],
        source=row["source"],
    )


@cache
def _all() -> tuple[Hospital, ...]:
    protocols = read_table("protocols.csv")
    return tuple(
        Hospital(
            name=row["name"],
            manufacturer=row["manufacturer"],
            model=row["model"],
            field_t=float(row["field_t"]),
            in_plane_mm=float(row["in_plane_mm"]),
            spacing_mm=float(row["spacing_mm"]),
            gain=float(row["gain"]),
            snr=float(row["snr"]),
            bias=float(row["bias"]),
            lesions=row["lesions"] == "yes",
            protocols=tuple(_protocol(p) for p in protocols if p["hospital"] == row["name"]),
        )
        for row in read_table("hospitals.csv")
    )


def hospitals() -> list[Hospital]:
    """All hospitals, in the order in which a consortium takes them."""
    return list(_all())


def hospital_named(name: str) -> Hospital:
    """A hospital by name.

    Raises
    ------
    DataError
        If there is none; the message lists them.
    """
    return choose(name, {hospital.name: hospital for hospital in _all()})


def choose(name: str, known: dict[str, H]) -> H:
    """A hospital by name among those known, or an error that lists them."""
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(f"{name!r} is not a phantom hospital{hint}; choose one of: {', '.join(known)}")
    return known[name]
