"""Which subjects of a data set belong to the site: the ``where`` filter and reading of tables."""

import csv
from collections.abc import Mapping
from pathlib import Path

from polysite.data.case import label_of
from polysite.errors import DataError


def read_table(path: Path, delimiter: str) -> list[dict[str, str]]:
    """Rows of a text table with a header line; rows without any value are dropped.

    Raises
    ------
    DataError
        If it cannot be read, is not UTF-8, or a row is longer than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a UTF-8 text table ({error}); save it again as UTF-8") from error
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise DataError(f"{path}: row {number} has more fields than the header; check its separators")
    filled = [{key: (value or "").strip() for key, value in row.items()} for row in rows]
    return [row for row in filled if any(row.values())]


def matches(row: Mapping[str, str], where: Mapping[str, str], path: Path) -> bool:
    """Whether a row has all the wanted values.

    Raises
    ------
    DataError
        If the table has no such column.
    """
    for column in where:
        if column not in row:
            raise DataError(f"{path}: has no column {column!r} for `where`; it has {', '.join(row)}")
    return all(row[column] == value for column, value in where.items())


def subjects_where(folder: Path, where: Mapping[str, str]) -> set[str] | None:
    """Labels of the subjects that ``participants.tsv`` gives the wanted values; None: no filter is asked for.

    Raises
    ------
    DataError
        If the table, a column or every match is missing.
    """
    if not where:
        return None
    path = folder / "participants.tsv"
    rows = read_table(path, "\t")
    if rows and "participant_id" not in rows[0]:
        raise DataError(f"{path}: has no column 'participant_id'; it has {', '.join(rows[0])}")
    found = {label_of(row["participant_id"]) for row in rows if matches(row, where, path)}
    if not found:
        wanted = ", ".join(f"{column}={value}" for column, value in where.items())
        raise DataError(f"{path}: no participant has {wanted}; check `where`")
    return found
