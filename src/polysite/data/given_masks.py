"""Masks that lie in files beside the images, whatever the format of the data set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polysite.config.base import expand
from polysite.config.sources import BidsData, DatasetData, FilesData, TableData
from polysite.data.case import Case
from polysite.image import suffix_of


def root_of(data: BidsData | TableData | FilesData | DatasetData) -> Path:
    """The data set's folder; of a table the one that it lies in."""
    return data.folder().parent if isinstance(data, TableData) else data.folder()


def with_masks(cases: Sequence[Case], root: Path, pattern: str | None) -> list[Case]:
    """The cases with the path of each image's mask; whether the file is there is seen when it is read.

    Parameters
    ----------
    root : Path
        The data set's folder.
    pattern : str or None
        ``masks`` of the data section; None: no masks are given.
    """
    if pattern is None:
        return list(cases)
    return [
        replace(
            case, masks={name: _path(case, name, path, root, pattern) for name, path in case.images.items()}
        )
        for case in cases
    ]


def _path(case: Case, contrast: str, image: Path, root: Path, pattern: str) -> Path:
    folder = image.parent
    words = {
        "subject": case.subject,
        "session": case.session or "",
        "contrast": contrast,
        "folder": folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix(),
        "name": image.name[: -len(suffix_of(image) or "")] if suffix_of(image) else image.name,
    }
    text = str(expand(Path(pattern)))
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    return root / text
