"""What the records of prepared cases say about their quality: figures of each contrast, and reasons for doubt.

No image is opened. A reason is a sentence for people; a case with one is to be looked at, not left out.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polysite.data.cache import PreparedCase

LIMIT_Z = 3.5
"""Robust z beyond which a figure is an outlier (Iglewicz and Hoaglin, 1993)."""
N_LEAST = 6
"""Cases of a site without which there is no telling what is usual."""
MOVED_MM, TURNED_DEGREES, STRETCHED = 20.0, 15.0, 0.05
"""More than this is not found between two contrasts of one session."""
COVERED = 0.9
"""Share of the reference's mask that a contrast must reach."""
CLIPPED = 0.1
"""Share of a mask's voxels beyond the percentiles that calls for a look."""


@dataclass(frozen=True)
class Doubt:
    """Why a contrast of a case should be looked at."""

    contrast: str
    reason: str


@dataclass(frozen=True)
class Figure:
    """A figure by which cases of a site are compared.

    ``floor`` is the least spread that counts as usual (in its own unit, or with ``relative`` as a share of the
    median); ``side`` says which outliers are trouble.
    """

    name: str
    unit: str
    side: Literal["low", "high", "both"]
    floor: float
    relative: bool = False
    digits: int = 2


FIGURES = (
    Figure("mutual information after registration", "", "low", 0.05, relative=True),
    Figure("shift", "mm", "high", 1.0, digits=1),
    Figure("rotation", "°", "high", 1.0, digits=1),
    Figure("stretch", "%", "high", 1.0, digits=1),
    Figure("volume of the mask", "ml", "both", 0.05, relative=True, digits=0),
    Figure("window", "", "both", 0.15, relative=True, digits=0),
)
"""In the order of `figures_of`; the window is the range of intensities that is not clipped."""


def figures_of(step: dict[str, Any]) -> tuple[float | None, ...]:
    """A contrast's value of each figure; None where it has none."""
    moved = step["registration"]
    window = step["percentiles"]["high"] - step["percentiles"]["low"]
    of_registration = (
        (None,) * 4
        if moved is None
        else (
            moved["information_after"],
            moved["shift_mm"],
            moved["rotation_degrees"],
            100 * moved["stretch"],
        )
    )
    return (*of_registration, step["mask"]["ml"], window)


def doubts(cases: Sequence[PreparedCase]) -> list[list[Doubt]]:
    """For each case of a run what speaks against it; empty where nothing does.

    Besides fixed limits a figure is compared with those of the same contrast at the same site.
    """
    found = [list(_alone(case)) for case in cases]
    groups: dict[tuple[str, str], list[tuple[int, tuple[float | None, ...]]]] = defaultdict(list)
    for index, case in enumerate(cases):
        for contrast, step in case.record["steps"].items():
            groups[case.site, contrast].append((index, figures_of(step)))
    for (_, contrast), members in groups.items():
        for number, figure in enumerate(FIGURES):
            there = [(index, value) for index, values in members if (value := values[number]) is not None]
            for index, reason in _outliers(figure, there):
                found[index].append(Doubt(contrast, reason))
    return found


def _alone(case: PreparedCase) -> Iterator[Doubt]:
    """What speaks against a case without looking at others."""
    for contrast, step in case.record["steps"].items():
        moved = step["registration"]
        if moved is not None:
            if moved["warning"]:
                yield Doubt(contrast, f"registration {moved['warning']}")
            elif moved["information_after"] <= moved["information_before"]:
                yield Doubt(contrast, "mutual information did not grow by registration")
            if not moved["warning"] and _far(moved):
                yield Doubt(contrast, f"registration moved it by {_movement(moved)}; see whether that can be")
        if step["reach"] < COVERED:
            yield Doubt(
                contrast,
                f"covers {100 * step['reach']:.0f} % of the mask of {case.reference}; the rest is empty",
            )
        clipped = step["percentiles"]["clipped"]
        if clipped > CLIPPED:
            yield Doubt(contrast, f"{100 * clipped:.0f} % of the mask's voxels are beyond the percentiles")
        if step["negative"]["share"] > 0 and not step["negative"]["clipped"]:
            share = 100 * step["negative"]["share"]
            yield Doubt(contrast, f"{share:.0f} % of its values are negative: zero is not its background")


def _far(moved: dict[str, Any]) -> bool:
    return bool(
        moved["shift_mm"] > MOVED_MM
        or moved["rotation_degrees"] > TURNED_DEGREES
        or moved["stretch"] > STRETCHED
    )


def _movement(moved: dict[str, Any]) -> str:
    stretched = f", {100 * moved['stretch']:.1f} % of stretch" if moved["stretch"] else ""
    return f"{moved['shift_mm']:.1f} mm and {moved['rotation_degrees']:.1f}°{stretched}"


def robust_z(values: Sequence[float], floor: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Distances from the median in robust standard deviations: 1.4826 times the median distance, at least `floor`.

    >>> robust_z([1, 2, 3, 4, 100], floor=0).round(2)
    array([-1.35, -0.67,  0.  ,  0.67, 65.43])
    """
    apart = np.asarray(values, np.float64) - np.median(values)
    return np.asarray(apart / max(1.4826 * float(np.median(np.abs(apart))), floor, 1e-12))


def _outliers(figure: Figure, members: Sequence[tuple[int, float]]) -> Iterator[tuple[int, str]]:
    """The cases whose figure is far from the others', and that in words."""
    if len(members) < N_LEAST:
        return
    values = [value for _, value in members]
    median = float(np.median(values))
    floor = figure.floor * abs(median) if figure.relative else figure.floor
    for (index, value), z in zip(members, robust_z(values, floor), strict=True):
        far = {"low": -z, "high": z, "both": abs(z)}[figure.side]
        if far > LIMIT_Z:
            unit = f" {figure.unit}" if figure.unit else ""
            yield (
                index,
                f"{figure.name} {value:.{figure.digits}f}{unit} is far {'above' if z > 0 else 'below'} what is usual "
                f"at the site (median {median:.{figure.digits}f}{unit} of {len(values)} cases)",
            )
