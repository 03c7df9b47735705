"""scores.csv: one line for each method, seed, subject, image and task."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

from polysite.errors import DataError
from polysite.evaluate.kinds import KINDS, Column, Kind

IDENTITY = ("method", "seed", "site", "subject", "session", "image", "task")
"""The columns that every table begins with; those of its kind of task follow."""


@dataclass(frozen=True)
class Score:
    """The scores of one synthetic volume, or of one class in one image.

    ``kind`` is a key of `KINDS`, which says what ``metrics`` and ``details`` hold; a metric that is not
    defined is None. ``task`` is ``T1w->T2w`` or the class, ``image`` the segmented image's name (empty
    for synthesis).
    """

    kind: str
    method: str
    seed: int
    site: str
    subject: str
    session: str | None
    task: str
    metrics: Mapping[str, float | None]
    details: Mapping[str, int | float | str | None] = field(default_factory=dict)
    image: str = ""

    def __post_init__(self) -> None:
        """Reject a score that cannot be true."""
        for name in ("method", "site", "subject", "task"):
            if not getattr(self, name):
                raise DataError(f"{name} is empty")
        if self.kind not in KINDS:
            raise DataError(f"{self.kind!r} is no kind of task; choose one of: {', '.join(KINDS)}")
        values = {**self.metrics, **self.details}
        columns = KINDS[self.kind].columns
        for column in columns:
            if refusal := column.refusal(values.get(column.name)):
                raise DataError(refusal)
        for name in values:
            if all(name != column.name for column in columns):
                raise DataError(f"{name!r} is no column of {self.kind} scores")

    @property
    def key(self) -> tuple[str, int, str, str, str | None, str, str]:
        """What may stand only once in a table."""
        return self.method, self.seed, self.site, self.subject, self.session, self.image, self.task


def columns_of(kind: Kind) -> tuple[str, ...]:
    """The header of a table of one kind of task."""
    return (*IDENTITY, *(column.name for column in kind.columns))


def kind_of(scores: Sequence[Score]) -> Kind:
    """The kind of task that scores are of; synthesis where there are none.

    Raises
    ------
    DataError
        If they are of several: their metrics cannot stand in one table.
    """
    kinds = list(dict.fromkeys(row.kind for row in scores)) or ["synthesis"]
    if len(kinds) > 1:
        raise DataError(
            f"scores of {' and '.join(kinds)} cannot stand in one table; take the runs of one task"
        )
    return KINDS[kinds[0]]


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write a whole table; the file is complete or not there.

    Raises
    ------
    DataError
        If a key stands twice, the scores are of several kinds, or the file cannot be written.
    """
    rows = list(scores)
    _unique([(row, f"{path}") for row in rows])
    columns = columns_of(kind_of(rows))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = {**vars(row), **row.metrics, **row.details}
        writer.writerow(["" if values.get(name) is None else values[name] for name in columns])
    replace_text(path, text.getvalue())


def read_scores(path: Path) -> list[Score]:
    """Read and check a table; its header says of which kind of task it is.

    A table of synthesis may lack the column ``image``, as those of version 0.1.0 do.

    Raises
    ------
    DataError
        Naming file, line and value: a missing or unknown column, a value that is no number or cannot be
        true, or a key that stands twice.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            kind = _kind_of_header(reader.fieldnames or (), path)
            located = [
                (_parse(row, kind, f"{path}:{reader.line_num}"), f"{path}:{reader.line_num}")
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table of scores: {error}") from error
    _unique(located)
    return [row for row, _ in located]


def _kind_of_header(header: Sequence[str], path: Path) -> Kind:
    """The kind whose columns a header has; the error names those of the nearest one."""
    kind = max(KINDS.values(), key=lambda kind: len({*header} & {column.name for column in kind.columns}))
    columns = columns_of(kind)
    optional = {"image"} if kind.name == "synthesis" else set()
    missing = [name for name in columns if name not in header and name not in optional]
    unknown = [name for name in header if name not in columns]
    if missing or unknown or len(set(header)) < len(header):
        raise DataError(
            f"{path}:1: the columns must be {', '.join(columns)}"
            f"{'; missing: ' + ', '.join(missing) if missing else ''}"
            f"{'; unknown: ' + ', '.join(map(repr, unknown)) if unknown else ''}"
        )
    return kind


def _parse(row: dict[str, str | None], kind: Kind, where: str) -> Score:
    # csv gives None for values that a short line lacks and a None key to those that a long line has too many
    if None in row or None in row.values():
        raise DataError(f"{where}: needs {len([name for name in row if name])} values, one a column")
    text = {name: value or "" for name, value in row.items()}
    try:
        return Score(
            kind=kind.name,
            method=text["method"],
            seed=int(_number(Column("seed", int), text["seed"])),
            site=text["site"],
            subject=text["subject"],
            session=text["session"] or None,
            image=text.get("image", ""),
            task=text["task"],
            metrics={metric.name: _optional(metric.column, text[metric.name]) for metric in kind.metrics},
            details={
                column.name: text[column.name]
                if column.holds is str
                else _optional(column, text[column.name])
                for column in kind.details
            },
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _optional(column: Column, text: str) -> float | None:
    return None if column.optional and not text else _number(column, text)


def _number(column: Column, text: str) -> float:
    try:
        return int(text) if column.holds is int else float(text)
    except ValueError:
        raise DataError(f"{column.name} is {text!r}, not a number") from None


def _unique(located: Sequence[tuple[Score, str]]) -> None:
    seen = set()
    for row, where in located:
        if row.key in seen:
            image = f" in {row.image}" if row.image else ""
            raise DataError(
                f"{where}: {row.method} with seed {row.seed}, {row.subject} at {row.site}, {row.task}{image} "
                "is scored twice"
            )
        seen.add(row.key)


def replace_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 by way of a temporary one beside it, so that it is complete or not there."""
    temporary: Path | None = None
    try:
        with NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
