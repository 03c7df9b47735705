"""The series of a folder in words, for the screen of the person who may see them, and for no file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polysite.data.dicom.choice import is_derived
from polysite.data.dicom.pixels import NAMES
from polysite.data.dicom.scan import Progress, Scan, Series, scan
from polysite.data.dicom.series import stack_of
from polysite.errors import DataError

Rows = tuple[Sequence[str], list[Sequence[str]]]

TITLES = (
    "series", "patient", "description", "protocol", "slices", "matrix", "voxel (mm)", "TE (ms)", "TR (ms)", "stored",
    "folder", "trouble",
)  # fmt: skip


def look(path: Path, progress: Progress | None = None) -> Scan:
    """What a folder or file holds; errors name it as it was given."""
    try:
        return scan(path, progress=progress)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def series_rows(found: Scan) -> Rows:
    """Titles and a row a series."""
    return TITLES, [_row(found, series) for series in found.series]


def bad_files(found: Scan) -> Rows:
    """Titles and a row for each file that is damaged: its number, its path, and why."""
    rows: list[Sequence[str]] = [
        (str(number), shown(str(found.files[number - 1].path)), why) for number, why in found.damaged
    ]
    return ("file", "path", "trouble"), rows


def _row(found: Scan, series: Series) -> Sequence[str]:
    header, (_, listed, _) = series.first, series.files[0]
    trouble, voxel = "", ""
    try:
        stack = stack_of(series)
        voxel = "×".join(f"{size:.3g}" for size in np.linalg.norm(stack.affine[:3, :3], axis=0))
        trouble = "; ".join(stack.notes)
    except DataError as error:
        trouble = str(error)
    if is_derived(header):
        trouble = "; ".join(filter(None, ("derived from another series", trouble)))
    if header.syntax not in NAMES:
        trouble = "; ".join(filter(None, ("compressed in a way that is not read", trouble)))
    times = (header.parameters.get(name) for name in ("EchoTime", "RepetitionTime"))
    texts = (
        str(series.number),
        header.person[0],
        header.description,
        header.protocol,
        str(series.n_frames),
        f"{header.pixels.columns}×{header.pixels.rows}",
        voxel,
        *(f"{1000 * time:.4g}" if isinstance(time, float) else "" for time in times),
        NAMES.get(header.syntax, header.syntax),
        str(listed.path.parent.relative_to(found.root) if found.root.is_dir() else listed.path.name),
        trouble,
    )
    return [shown(text) for text in texts]


def shown(text: str) -> str:
    """A text from a file without what would command the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
