"""Prepared cases laid out for the page of `polysite qc`: slices through them, and their figures as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.data.cache import PreparedCase
from polysite.data.quality import doubts
from polysite.report.quality import Contrast, Looked, Plane, write_page

HEADS = (
    "Information",
    "Moved (mm)",
    "Turned (°)",
    "Stretch (%)",
    "Mask (ml)",
    "Clipped (%)",
    "Window",
    "Shading",
    "Covered (%)",
)
SETTINGS = (
    *("reference", "axes", "spacing_mm", "registration", "transform", "mask", "bias", "percentiles"),
    "normalisation",
)
"""What the page says of how cases were prepared."""


def write_quality(
    prepared: Mapping[str, Mapping[str, Sequence[PreparedCase]]], out: Path, *, name: str
) -> Path:
    """Write the page about a run's prepared cases.

    Parameters
    ----------
    prepared : mapping of site to split to prepared cases
        Pictures are drawn from their arrays.
    out : Path
        The HTML file.
    name : str
        The run's.
    """
    every = [
        (split, case) for splits in prepared.values() for split, cases in splits.items() for case in cases
    ]
    found = doubts([case for _, case in every])
    cases = [
        _looked(case, split, [(doubt.contrast, doubt.reason) for doubt in its])
        for (split, case), its in zip(every, found, strict=True)
    ]
    about = {case.site: _settings(case) for _, case in every}
    return write_page(cases, out, title=name, heads=HEADS, about=list(about.items()))


def _settings(case: PreparedCase) -> str:
    settings = case.record["settings"]
    return ", ".join(f"{name} {_plain(settings[name])}" for name in SETTINGS if settings[name] is not None)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " × ".join("kept" if item is None else f"{item:g}" for item in value)
    return str(value)


def _looked(case: PreparedCase, split: str, reasons: list[tuple[str, str]]) -> Looked:
    names = [case.reference, *(name for name in case.contrasts if name != case.reference)]
    mask = np.asarray(case.mask())
    labels = case.labels()
    region = mask if labels is None else np.asarray(labels) > 0
    middle = tuple(int(np.median(places)) for places in np.nonzero(region if region.any() else mask | True))
    shown = {name: _window(np.asarray(case.volume(name), np.float32), mask) for name in names}
    return Looked(
        site=case.site,
        key=case.key,
        split=split,
        reference=case.reference,
        contrasts=[
            Contrast(
                name,
                _planes(
                    case,
                    shown[name],
                    None if name == case.reference else shown[case.reference],
                    region,
                    middle,
                ),
                _figures(case.record["steps"][name]),
                case.record["steps"][name]["notes"],
            )
            for name in names
        ],
        doubts=reasons,
    )


def _window(volume: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values from 0 to 1 for the eye, whatever the normalisation; bright fat is not to leave the brain dark."""
    low, high = np.percentile(volume[mask] if mask.any() else volume, (0.5, 98))
    return np.asarray((volume - low) / max(float(high - low), 1e-6))


def _planes(
    case: PreparedCase,
    volume: NDArray[np.float32],
    under: NDArray[np.float32] | None,
    region: NDArray[np.bool_],
    middle: tuple[int, ...],
) -> list[Plane]:
    """Slices through the middle of what is outlined; arrays are (z, x, y)."""
    from nibabel import aff2axcodes

    codes = aff2axcodes(case.grid.affine)
    spacing = case.grid.spacing_mm
    planes = []
    # the axes of a picture run to the left and up once it is displayed
    for across, right, up in ((2, 0, 1), (1, 0, 2), (0, 1, 2)):
        planes.append(
            Plane(
                name={"S": "axial", "I": "axial", "A": "coronal", "P": "coronal"}.get(
                    codes[across], "sagittal"
                ),
                image=_cut(volume, across, middle),
                under=None if under is None else _cut(under, across, middle),
                region=_cut(region, across, middle),
                spacing_mm=(float(spacing[right]), float(spacing[up])),
                sides=(codes[right], _OPPOSITE[codes[right]]),
            )
        )
    return planes


def _cut(array: NDArray[Any], across: int, middle: tuple[int, ...]) -> NDArray[Any]:
    """The slice of an array (z, x, y) through a place (z, x, y), across axis 0 (x), 1 (y) or 2 (z)."""
    if across == 2:
        return np.asarray(array[middle[0]])
    flat = array[:, middle[1]] if across == 0 else array[:, :, middle[2]]
    return np.asarray(flat.T)  # z comes first in the array, and goes up in the picture


_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


def _figures(step: Mapping[str, Any]) -> list[str]:
    """A contrast's figures under the heads."""
    moved, bias, window = step["registration"], step["bias"], step["percentiles"]
    registered = (
        ["–"] * 4
        if moved is None
        else [
            f"{moved['information_before']:.3f} → {moved['information_after']:.3f}",
            f"{moved['shift_mm']:.1f}",
            f"{moved['rotation_degrees']:.1f}",
            f"{100 * moved['stretch']:.1f}",
        ]
    )
    return [
        *registered,
        f"{step['mask']['ml']:.0f} ({step['mask']['kind']})",
        f"{100 * window['clipped']:.2f}",
        f"{window['low']:.4g} to {window['high']:.4g}",
        "–" if bias is None else f"{bias['least']:.2f} to {bias['most']:.2f}",
        f"{100 * step['reach']:.0f}",
    ]
