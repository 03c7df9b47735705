"""Proton density and relaxation times of tissues at 1.5 and 3 T (tissues.csv names the sources)."""

import csv
from dataclasses import dataclass
from importlib.resources import files
from math import log2


@dataclass(frozen=True)
class Tissue:
    """One tissue at one field strength.

    Attributes
    ----------
    index : int
        Its value in label maps.
    name : str
    pd : float
        Proton density, water is 1.
    t1_ms, t2_ms, t2star_ms : float
        Relaxation times.
    variation : float
        Standard deviation of T1 and T2 inside the tissue, as a fraction.
    """

    index: int
    name: str
    pd: float
    t1_ms: float
    t2_ms: float
    t2star_ms: float
    variation: float


def _rows(package: str) -> list[dict[str, str]]:
    with (files(package) / "tissues.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tissue_names(package: str = "polysite.phantom") -> tuple[str, ...]:
    """Names in the order of the label values, from air = 0."""
    return tuple(row["name"] for row in _rows(package))


def tissues(field_t: float, package: str = "polysite.phantom") -> dict[str, Tissue]:
    """The table beside a package at a field strength (tesla), in the order of the labels.

    Between and beyond the two tabulated fields each relaxation time follows a power law of the field, as
    T1 does from 0.2 to 7 T (Rooney et al., Magn Reson Med 57:308, 2007).

    >>> tissues(3.0)["white_matter"].t1_ms
    832.0
    >>> tissues(1.5)["white_matter"].t1_ms < tissues(2.0)["white_matter"].t1_ms < 832
    True
    """
    if not 0.2 <= field_t <= 7:
        raise ValueError(f"field_t is {field_t}, but the relaxation times are known from 0.2 to 7 tesla")

    def at_field(row: dict[str, str], name: str) -> float:
        low, high = float(row[f"{name}_15"]), float(row[f"{name}_30"])
        return float(low * (high / low) ** log2(field_t / 1.5))

    return {
        row["name"]: Tissue(
            index=int(row["index"]),
            name=row["name"],
            pd=float(row["pd"]),
            t1_ms=at_field(row, "t1_ms"),
            t2_ms=at_field(row, "t2_ms"),
            t2star_ms=at_field(row, "t2star_ms"),
            variation=float(row["variation"]),
        )
        for row in _rows(package)
    }


TISSUES = tissue_names()
"""The head's tissues."""
