"""The centres of the cardiac consortium: scanner, sequence, geometry, and which hearts they see.

The table is ``centres.csv`` beside this file; every row states its source. The centres are inventions after the
vendors of M&Ms (five of cine) and after EMIDEC (one of late gadolinium enhancement).
"""

from dataclasses import dataclass
from functools import cache

from polysite.phantom.hospital import choose, number, read_table

PACKAGE = "polysite.phantom.cardiac"
CINE_LABELS = ("background", "lv", "myocardium", "rv")
LGE_LABELS = ("background", "lv", "myocardium", "infarct", "no_reflow")


@dataclass(frozen=True)
class Centre:
    """A centre. Times in ms, angles in degrees, lengths in mm.

    Attributes
    ----------
    sequence : str
        A function of :mod:`polysite.phantom.signal`.
    tr_ms, n_shots, shot_ms
        Repetition time; of late enhancement from inversion to inversion, with the pulses after each and their spacing.
    matrix : (columns, rows)
    thickness_mm, gap_mm : float
        Of a slice, and between slices.
    gain : float
        Image units for a signal of one (all water, fully relaxed).
    snr : float
        Signal of blood over the noise's standard deviation.
    bias, coil : float
        Shading: log standard deviation of a random field, and fall of the chest coil's log sensitivity over 100 mm.
    inflow : float
        How much brighter blood is because unsaturated blood flows into the slice.
    first_slice : str
        ``"base"`` or ``"apex"``: which end the stack starts from.
    groups : tuple of str
        Hearts of its subjects, in turn.
    """

    name: str
    manufacturer: str
    model: str
    field_t: float
    sequence: str
    tr_ms: float
    te_ms: float
    flip_deg: float
    n_shots: int | None
    shot_ms: float | None
    matrix: tuple[int, int]
    in_plane_mm: float
    thickness_mm: float
    gap_mm: float
    gain: float
    snr: float
    bias: float
    coil: float
    inflow: float
    first_slice: str
    groups: tuple[str, ...]
    source: str

    @property
    def enhanced(self) -> bool:
        """Whether it acquires late gadolinium enhancement rather than cine."""
        return self.sequence == "phase_sensitive"

    @property
    def contrasts(self) -> tuple[str, ...]:
        """What it acquires, as file suffixes."""
        return ("LGE",) if self.enhanced else ("cine",)

    @property
    def labels(self) -> tuple[str, ...]:
        """What its label maps mean, from 0."""
        return LGE_LABELS if self.enhanced else CINE_LABELS

    @property
    def spacing_mm(self) -> float:
        """From slice to slice."""
        return self.thickness_mm + self.gap_mm


def _centre(row: dict[str, str]) -> Centre:
    return Centre(
        name=row["name"],
        manufacturer=row["manufacturer"],
        model=row["model"],
        field_t=float(row["field_t"]),
        sequence=row["sequence"],
        tr_ms=float(row["tr_ms"]),
        te_ms=float(row["te_ms"]),
        flip_deg=float(row["flip_deg"]),
        n_shots=int(row["n_shots"]) if row["n_shots"] else None,
        shot_ms=number(row["shot_ms"]),
        matrix=(int(row["n_x"]), int(row["n_y"])),
        in_plane_mm=float(row["in_plane_mm"]),
        thickness_mm=float(row["thickness_mm"]),
        gap_mm=float(row["gap_mm"]),
        gain=float(row["gain"]),
        snr=float(row["snr"]),
        bias=float(row["bias"]),
        coil=float(row["coil"]),
        inflow=float(row["inflow"]),
        first_slice=row["first_slice"],
        groups=tuple(row["groups"].split()),
        source=row["source"],
    )


@cache
def _all() -> tuple[Centre, ...]:
    return tuple(_centre(row) for row in read_table("centres.csv", PACKAGE))


def centres() -> list[Centre]:
    """All centres, in the order in which a consortium takes them."""
    return list(_all())


def centre_named(name: str) -> Centre:
    """A centre by name.

    Raises
    ------
    DataError
        If there is none; the message lists them.
    """
    return choose(name, {centre.name: centre for centre in _all()})
