"""What lies beside the images as text: tables, lines ``Key: value``; never more of it than a text can be."""

import csv
from collections.abc import Sequence
from pathlib import Path

from polysite.data.datasets.folder import Folder
from polysite.data.participants import read_table

LARGEST = 1_000_000
"""Characters of a text that are read."""


def text_of(path: Path | None, encoding: str = "utf-8") -> str:
    """A file's text; of none, or of one that cannot be read, nothing. What is no text of its encoding is replaced."""
    if path is None:
        return ""
    try:
        with path.open(encoding=encoding, errors="replace") as file:
            return file.read(LARGEST)
    except OSError:
        return ""


def pairs_of(text: str) -> dict[str, str]:
    """The lines ``Key: value``.

    >>> pairs_of("ED: 1\\nGroup: DCM \\n\\n")
    {'ED': '1', 'Group': 'DCM'}
    """
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def table_with(folder: Folder, columns: Sequence[str]) -> tuple[Path, list[dict[str, str]]] | None:
    """The first CSV file below a folder that has these columns, with its rows; of the others only one line is read."""
    for path in folder.named(r".*\.csv"):
        header = next(csv.reader([*text_of(path, "utf-8-sig").splitlines()[:1], ""]))
        if set(columns) <= set(header):
            return path, read_table(path, ",")
    return None
