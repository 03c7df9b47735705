"""Cases from a CSV table: one row a case, one column of paths a contrast, and one of label images."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from polysite.config.sources import TableData
from polysite.data.case import Case, label_of
from polysite.data.participants import matches, read_table
from polysite.errors import DataError

Row = Mapping[str, str]
_COLUMN = re.compile(r"\{([^{}]+)\}")


def _columns(text: str) -> list[str]:
    """The columns that a path is put together from; a text without braces is a column itself.

    >>> _columns("label"), _columns("{centre}/{code}_sa.nii.gz")
    (['label'], ['centre', 'code'])
    """
    return _COLUMN.findall(text) or [text]


def _file(table: Path, row: Row, text: str) -> Path | None:
    """The file of a row; None where a column is empty, or nothing fits a path with ``*``.

    Raises
    ------
    DataError
        If two files fit.
    """
    if not all(row.get(column) for column in _columns(text)):
        return None
    if not _COLUMN.search(text):
        return table.parent / Path(row[text])
    name = _COLUMN.sub(lambda match: row[match[1]], text)
    if "*" not in name:
        return table.parent / name
    found = sorted(table.parent.glob(name))
    if len(found) > 1:
        raise DataError(f"{table}: {found[0]} and {found[1]} both fit {name!r}; make the path narrower")
    return found[0] if found else None


def _frame(table: Path, number: int, row: Row, column: str, first: int) -> int:
    """A row's frame, from 0."""
    try:
        index = int(row[column]) - first
    except ValueError:
        index = -1
    if index < 0:
        raise DataError(
            f"{table}: row {number} has {row[column]!r} in {column!r}; a frame is a whole number from {first}"
        )
    return index


def read_cases(site_name: str, data: TableData, contrasts: Sequence[str]) -> list[Case]:
    """The rows of a table that have at least one of the contrasts.

    Paths are relative to the table's folder or absolute. Two rows of one subject (and session) give two cases
    of the same key; the check reports it.

    Raises
    ------
    DataError
        If the table is missing, lacks a column, or no row is left.
    """
    path = data.folder()
    rows = read_table(path, ",")
    texts = {contrast: data.contrasts.get(contrast, contrast) for contrast in contrasts}
    named = [*data.contrasts.values(), *data.label_images.values()]
    session = [] if data.session == TableData.model_fields["session"].default else [data.session]
    needed = [column for text in named for column in _columns(text)]
    for column in (data.subject, *session, *data.frames.values(), *needed):
        if rows and column not in rows[0]:
            raise DataError(f"{path}: has no column {column!r}; it has {', '.join(rows[0])}")
    cases = []
    for number, row in enumerate(rows, start=2):
        if not matches(row, data.where, path):
            continue
        if not row[data.subject]:
            raise DataError(f"{path}: row {number} names no subject")
        files = {contrast: _file(path, row, text) for contrast, text in texts.items()}
        images = {contrast: file for contrast, file in files.items() if file}
        if not images:
            continue
        labels = {name: _file(path, row, text) for name, text in data.label_images.items() if name in images}
        visit = label_of(row[data.session], "ses") if row.get(data.session) else None
        cases.append(
            Case(
                site_name,
                label_of(row[data.subject]),
                visit,
                images,
                path.parent,
                labels={name: file for name, file in labels.items() if file},
                frames={
                    name: _frame(path, number, row, column, data.first_frame)
                    for name, column in data.frames.items()
                    if name in images
                },
            )
        )
    if not cases:
        wanted = "".join(f" with {column}={value}" for column, value in data.where.items())
        raise DataError(
            f"{path}: nothing found for site {site_name!r}; looked for rows{wanted} that have a path in one "
            f"of the columns {', '.join(texts.values())}"
        )
    return sorted(cases, key=lambda case: case.key)
