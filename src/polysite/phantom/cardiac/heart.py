"""One heart: its size, its disease, and its surfaces at end-diastole and end-systole.

A heart is drawn around its long axis. At a level (0 at the base, 1 at the apex of the left cavity) every
surface is a radius that depends on the angle, so volumes are integrals of squared radii and are known exactly:
sizes are solved for the volumes that were drawn, not the other way round. Angles are in degrees, anticlockwise
as a reader sees a short-axis image: 0 lateral, 90 anterior, 180 septal, 270 inferior.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]

FRAMES = ("ED", "ES")
N_ANGLES = 128
ANGLES = np.arange(N_ANGLES) * 360.0 / N_ANGLES
LEVELS = np.arange(-30, 66) * 0.02
TOP, EQUATOR = 0.88, 0.30
SHARPNESS = 2.3
"""Of the outline of the cavity: 2 is an ellipse."""


@dataclass(frozen=True)
class Infarct:
    """A scar around (angle, level), domed into the wall from inside; `core` is the no-reflow share."""

    angle_deg: float
    level: float
    half_angle_deg: float
    half_level: float
    transmurality: float
    core: float


@dataclass(frozen=True)
class Heart:
    """What makes one heart.

    Attributes
    ----------
    lv_edv_ml, rv_edv_ml : float
        Volumes at end-diastole.
    lv_ef, rv_ef : float
        Ejection fractions, 0 to 1.
    length_mm, wall_mm : float
        Of the left cavity from base to apex, and of the free wall, at end-diastole.
    septal : float
        Thickening of the septum, as a fraction of the wall.
    roll_deg : float
        Turn about the long axis.
    tilt : (x, y)
        Slope of the long axis against the stack.
    infarct : Infarct or None
    outline, ridges : arrays (level, angle)
        Relative unevenness of the surfaces, and height in mm of the trabeculae.
    papillary : tuple of (angle, radius_mm, first level, last level)
    """

    group: str
    lv_edv_ml: float
    lv_ef: float
    rv_edv_ml: float
    rv_ef: float
    length_mm: float
    wall_mm: float
    septal: float
    oval: float
    roll_deg: float
    tilt: tuple[float, float]
    fat_mm: float
    infarct: Infarct | None
    outline: Table
    ridges: Table
    papillary: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Surfaces:
    """A heart in one frame: radii in mm around the long axis, each (level, angle).

    Attributes
    ----------
    base_mm, length_mm : float
        Where level 0 lies along the long axis (0 is the base at end-diastole, towards the apex), and the way from
        level 0 to level 1.
    endo, epi : arrays
        Inner and outer surface of the left ventricle's wall; above the base, of atrium and outflow tract.
    rv : array
        Outer surface of the right cavity; equal to `epi` where there is none.
    infarct : array
        Outer surface of the infarct, which starts at `endo`; equal to `endo` where there is none.
    core_inner, core_outer : arrays
        No-reflow lies between them.
    """

    base_mm: float
    length_mm: float
    endo: Table
    epi: Table
    rv: Table
    infarct: Table
    core_inner: Table
    core_outer: Table


# --- drawing ------------------------------------------------------------------------------------------


def draw_heart(rng: np.random.Generator, group: str) -> Heart:
    """Draw a heart of a group; sizes as in the groups' published ranges (Kawel-Boehm et al., JCMR 2020)."""
    size = float(np.exp(rng.normal(0, 0.16)))
    mean = {
        "healthy": (142, 0.62, 8.2, 0.10, 1.08, 0.58),
        "dilated": (255, 0.27, 7.8, 0.03, 0.78, 0.42),
        "hypertrophic": (128, 0.71, 12.5, 0.55, 1.00, 0.62),
        "infarcted": (178, 0.43, 8.4, 0.08, 0.84, 0.53),
    }[group]
    edv = mean[0] * size
    wall = mean[2] * size ** (1 / 3) * float(np.exp(rng.normal(0, 0.09)))
    septal = mean[3] * float(rng.uniform(0.6, 1.5))
    lv_ef = float(np.clip(rng.normal(mean[1], 0.045), 0.14, 0.78))
    rv_ef = float(np.clip(rng.normal(mean[5], 0.04), 0.25, 0.72))
    rv_edv = edv * mean[4] * float(np.exp(rng.normal(0, 0.08)))
    slim = {"dilated": 0.92, "hypertrophic": 1.06}.get(group, 1.0)
    length = 88 * (edv / 142) ** (1 / 3) * slim * float(rng.normal(1, 0.035))
    papillary = (
        (float(rng.normal(48, 7)), float(rng.uniform(4.0, 5.6)), 0.24, 0.74),
        (float(rng.normal(-62, 8)), float(rng.uniform(3.8, 5.4)), 0.28, 0.76),
    )
    return Heart(
        group=group,
        lv_edv_ml=edv,
        lv_ef=lv_ef,
        rv_edv_ml=rv_edv,
        rv_ef=rv_ef,
        length_mm=length,
        wall_mm=wall,
        septal=septal,
        oval=float(rng.normal(0, 0.025)),
        roll_deg=float(rng.normal(0, 9)),
        tilt=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
        fat_mm=float(rng.uniform(1.5, 5.0)),
        infarct=_draw_infarct(rng) if group == "infarcted" else None,
        outline=_waves(rng, 4, 0.02),
        ridges=np.clip(np.abs(_waves(rng, 30, 1.5)) + _waves(rng, 6, 0.7) - 0.4, 0, 3.6),
        papillary=papillary,
    )


def _draw_infarct(rng: np.random.Generator) -> Infarct:
    """A scar in the territory of one coronary artery: anterior and septal, inferior, or lateral."""
    angle, level, half = [(125.0, 0.66, 62.0), (262.0, 0.42, 40.0), (-8.0, 0.45, 38.0)][
        int(rng.choice(3, p=[0.45, 0.35, 0.2]))
    ]
    return Infarct(
        angle_deg=float(rng.normal(angle, 8)),
        level=float(rng.normal(level, 0.05)),
        half_angle_deg=half * float(rng.uniform(0.85, 1.3)),
        half_level=float(rng.uniform(0.36, 0.56)),
        transmurality=float(rng.uniform(0.6, 1.0)),
        core=float(rng.uniform(0.58, 0.8)) if rng.random() < 0.6 else 0.0,
    )


def _waves(rng: np.random.Generator, highest: int, strength: float) -> Table:
    """A random smooth function of level and angle with mean 0 and standard deviation `strength`."""
    values = np.zeros((len(LEVELS), N_ANGLES))
    for order in range(2, highest + 1):
        for along in range(6):
            wave = np.cos(np.pi * along * LEVELS[:, None] + rng.uniform(0, 2 * np.pi))
            values += rng.normal() * wave * np.cos(np.deg2rad(order * ANGLES) + rng.uniform(0, 2 * np.pi))
    return np.asarray(strength * values / values.std())


# --- surfaces -----------------------------------------------------------------------------------------


def volume_ml(inner: Table | float, outer: Table, length_mm: float, *, first: float = 0.0) -> float:
    """Volume between two surfaces from a level on: the integral of half the squared radii.

    >>> cylinder = np.full((len(LEVELS), N_ANGLES), 20.0) * (LEVELS[:, None] <= 1)
    >>> round(volume_ml(0.0, cylinder, 100.0) / (np.pi * 0.4 * 10 * 10), 2)
    1.01
    """
    within = np.greater_equal(LEVELS, first - 1e-9)
    area = np.pi * (outer**2 - np.square(inner)).mean(axis=1)
    return float(np.trapezoid(area[within], LEVELS[within]) * length_mm / 1000)


def _profile(end: float) -> Table:
    """Radius along the axis, 1 at the equator and 0 from `end` on, (level, 1)."""
    towards_apex = np.clip((LEVELS - EQUATOR) / (end - EQUATOR), 0, 1)
    dome = (1 - towards_apex**SHARPNESS) ** (1 / SHARPNESS)
    towards_base = np.clip((EQUATOR - LEVELS) / EQUATOR, 0, 1)
    return np.asarray(dome * (1 - (1 - TOP) * towards_base**2))[:, None]


def _around(angle_deg: float) -> Table:
    """Signed angle from a direction, degrees from -180 to 180, (angle,)."""
    return np.asarray((ANGLES - angle_deg + 180) % 360 - 180)


def scar(infarct: Infarct) -> Table:
    """1 in the infarct's centre, 0 from its rim on, (level, angle)."""
    squared = (_around(infarct.angle_deg)[None] / infarct.half_angle_deg) ** 2
    squared = squared + ((LEVELS[:, None] - infarct.level) / infarct.half_level) ** 2
    return np.asarray(np.sqrt(np.clip(1 - squared, 0, 1)))


def surfaces(heart: Heart, frame: str) -> Surfaces:
    """The heart's surfaces at end-diastole (``"ED"``) or end-systole (``"ES"``).

    The left cavity contracts to the volume that its ejection fraction leaves, less where it is infarcted; the base
    comes down; the wall keeps its volume at every place, so it thickens where it contracts.
    """
    length = heart.length_mm
    endo, epi = _end_diastole(heart)
    base = 0.0
    if frame == "ES":
        endo, epi, length = _end_systole(heart, endo, epi)
        base = 0.9 * (heart.length_mm - length)
        rv_ml = heart.rv_edv_ml * (1 - heart.rv_ef)
    elif frame == "ED":
        rv_ml = heart.rv_edv_ml
    else:
        raise ValueError(f"frame is {frame!r}; choose one of: {', '.join(FRAMES)}")
    wall = epi - endo
    depth = np.zeros_like(endo)
    core_inner = core_outer = np.zeros_like(endo)
    if heart.infarct:
        dome = scar(heart.infarct)
        depth = heart.infarct.transmurality * np.minimum(1.8 * dome, 1.0)
        centre = 0.40 * heart.infarct.transmurality
        half = np.sqrt(np.clip(dome**2 - 1 + heart.infarct.core**2, 0, 1))
        core_inner = centre - 0.30 * heart.infarct.transmurality * half
        core_outer = centre + 0.30 * heart.infarct.transmurality * half
    return Surfaces(
        base_mm=base,
        length_mm=length,
        endo=endo,
        epi=epi,
        rv=_right_ventricle(epi, length, rv_ml),
        infarct=endo + wall * depth,
        core_inner=endo + wall * core_inner,
        core_outer=endo + wall * core_outer,
    )


def _end_diastole(heart: Heart) -> tuple[Table, Table]:
    shape = 1 + heart.oval * np.cos(np.deg2rad(2 * (ANGLES - 30)))[None] + heart.outline
    inner = _profile(1.0) * shape
    radius = (heart.lv_edv_ml / volume_ml(0.0, inner, heart.length_mm)) ** 0.5
    septum = np.exp(-((_around(160) / 55) ** 2))[None]
    below = np.clip(LEVELS, 0, 1)[:, None]
    wall = heart.wall_mm * (1 + heart.septal * septum * (1 - 0.5 * below)) * (1 - 0.22 * below**2)
    if heart.infarct:
        wall = wall * (1 - 0.22 * scar(heart.infarct))
    endo = radius * inner
    # the apex of the wall is thinner than its sides
    epi = np.maximum((radius * shape + wall) * _profile(1 + 0.75 * heart.wall_mm / heart.length_mm), 0)
    return endo, _thin_above_the_base(endo, epi)


def _thin_above_the_base(endo: Table, epi: Table) -> Table:
    """The outer surface with a thin wall above the base: atrium and outflow tract."""
    ventricle = np.clip(1 + LEVELS / 0.06, 0, 1)[:, None]
    return np.asarray(ventricle * epi + (1 - ventricle) * (endo + 2.0))


def _end_systole(heart: Heart, endo: Table, epi: Table) -> tuple[Table, Table, float]:
    length = heart.length_mm * (1 - 0.24 * heart.lv_ef)
    mobile = np.ones_like(endo)
    if heart.infarct:
        mobile = 1 - 0.85 * scar(heart.infarct)
    # endo (1 - k mobile) has the volume a - 2 k b + k^2 c: solve for k
    a = volume_ml(0.0, endo, length)
    b = volume_ml(0.0, endo * np.sqrt(mobile), length)
    c = volume_ml(0.0, endo * mobile, length)
    target = heart.lv_edv_ml * (1 - heart.lv_ef)
    k = (b - np.sqrt(max(b * b - c * (a - target), 0.0))) / c
    ventricle = np.clip(1 + LEVELS / 0.15, 0, 1)[:, None]
    smaller = endo * (1 - ventricle * k * mobile)
    thicker = np.sqrt(smaller**2 + (epi**2 - endo**2) * heart.length_mm / length)
    return smaller, _thin_above_the_base(smaller, thicker), length


def _right_ventricle(epi: Table, length_mm: float, volume: float) -> Table:
    """The right cavity's outer surface: a crescent on the septal side with a given volume.

    Towards the apex it narrows and retreats to the inferior insertion; above the base it goes on as atrium.
    """
    below = np.clip(LEVELS, 0, 1)[:, None]
    first, last = 100 + 48 * below**1.5, 250 - 8 * below
    t = np.clip((ANGLES[None] - first) / (last - first), 0, 1)
    crescent = np.sin(np.pi * t) ** 0.75 * (1 + 0.35 * (t - 0.5))
    reach = np.clip(1 - (below / 0.9) ** 2.6, 0, 1) ** 0.9
    crescent = crescent * reach
    # the volume between epi and epi + d crescent is 2 d b + d^2 c: solve for d
    b = volume_ml(0.0, np.sqrt(epi * crescent), length_mm)
    c = volume_ml(0.0, crescent, length_mm)
    d = (np.sqrt(b * b + c * volume) - b) / c
    return np.asarray(epi + d * crescent)


def truth(heart: Heart) -> dict[str, float]:
    """Exact volumes (ml), myocardial volume and ejection fractions (%), by name."""
    ed, es = surfaces(heart, "ED"), surfaces(heart, "ES")
    return {
        "lv_edv_ml": volume_ml(0.0, ed.endo, ed.length_mm),
        "lv_esv_ml": volume_ml(0.0, es.endo, es.length_mm),
        "lv_ef_percent": 100 * heart.lv_ef,
        "rv_edv_ml": volume_ml(ed.epi, ed.rv, ed.length_mm),
        "rv_esv_ml": volume_ml(es.epi, es.rv, es.length_mm),
        "rv_ef_percent": 100 * heart.rv_ef,
        "myocardium_ml": volume_ml(ed.endo, ed.epi, ed.length_mm),
        "infarct_ml": volume_ml(ed.endo, ed.infarct, ed.length_mm),
        "no_reflow_ml": volume_ml(ed.core_inner, ed.core_outer, ed.length_mm),
    }
