"""Cases from a CSV table: one row a case, one column a contrast."""

from collections.abc import Sequence
from pathlib import Path

from polysite.config import TableData
from polysite.data.case import Case, label_of
from polysite.data.participants import matches, read_table
from polysite.errors import DataError


def read_cases(site_name: str, data: TableData, contrasts: Sequence[str]) -> list[Case]:
    """The rows of a table that have at least one of the contrasts.

    Columns: ``subject``, optionally ``session``, and one for each contrast with a path, relative to the
    table's folder or absolute. A subject in two rows gives two cases of the same key; the check reports it.

    Raises
    ------
    DataError
        If the table is missing, lacks a column, or no row is left.
    """
    path = data.folder()
    rows = read_table(path, ",")
    columns = {contrast: data.contrasts.get(contrast, contrast) for contrast in contrasts}
    for column in ("subject", *data.contrasts.values()):
        if rows and column not in rows[0]:
            raise DataError(f"{path}: has no column {column!r}; it has {', '.join(rows[0])}")
    cases = []
    for number, row in enumerate(rows, start=2):
        if not matches(row, data.where, path):
            continue
        if not row["subject"]:
            raise DataError(f"{path}: row {number} names no subject")
        images = {
            contrast: path.parent / Path(row[column])
            for contrast, column in columns.items()
            if row.get(column)
        }
        if images:
            session = label_of(row["session"], "ses") if row.get("session") else None
            cases.append(Case(site_name, label_of(row["subject"]), session, images, path.parent))
    if not cases:
        wanted = "".join(f" with {column}={value}" for column, value in data.where.items())
        raise DataError(
            f"{path}: nothing found for site {site_name!r}; looked for rows{wanted} that have a path in one "
            f"of the columns {', '.join(columns.values())}"
        )
    return sorted(cases, key=lambda case: case.key)
