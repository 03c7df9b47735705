"""scores.csv: one line for each method, seed, subject and task."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from math import isfinite
from pathlib import Path
from tempfile import NamedTemporaryFile

from polysite.errors import DataError


@dataclass(frozen=True)
class Score:
    """The scores of one synthetic volume.

    ``mask`` names the voxels that were scored (``foreground`` or ``none``), ``data_range`` is in the scale
    of the scored volumes, ``n_voxels`` counts the scored voxels on the native grid.
    """

    method: str
    seed: int
    site: str
    subject: str
    session: str | None
    task: str
    psnr_db: float
    ssim: float
    nrmse: float
    n_voxels: int
    data_range: float
    mask: str

    def __post_init__(self) -> None:
        """Reject a score that cannot be true."""
        for name in ("method", "site", "subject", "task", "mask"):
            if not getattr(self, name):
                raise DataError(f"{name} is empty")
        if not isfinite(self.psnr_db):
            raise DataError(
                f"psnr_db is {self.psnr_db}; a finite value is needed (it is infinite where a volume is "
                "compared with itself)"
            )
        if not -1 <= self.ssim <= 1:
            raise DataError(f"ssim is {self.ssim}, outside [-1, 1]")
        if not (isfinite(self.nrmse) and self.nrmse >= 0):
            raise DataError(f"nrmse is {self.nrmse}, not a number from 0 up")
        if self.n_voxels < 1:
            raise DataError(f"n_voxels is {self.n_voxels}, not a count from 1 up")
        if not (isfinite(self.data_range) and self.data_range > 0):
            raise DataError(f"data_range is {self.data_range}, not a positive number")

    @property
    def key(self) -> tuple[str, int, str, str, str | None, str]:
        """What may stand only once in a table."""
        return self.method, self.seed, self.site, self.subject, self.session, self.task


COLUMNS = tuple(field.name for field in fields(Score))


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write a whole table; the file is complete or not there.

    Raises
    ------
    DataError
        If a key stands twice, or the file cannot be written.
    """
    rows = list(scores)
    _unique([(row, f"{path}") for row in rows])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if value is None else value for value in astuple(row)] for row in rows)
    replace_text(path, text.getvalue())


def append_scores(path: Path, scores: Iterable[Score]) -> None:
    """Add scores to a table, which is created where it is missing; a key that is there is replaced.

    Not for two writers at once: the table is read, joined and replaced.
    """
    table = {row.key: row for row in (read_scores(path) if path.exists() else [])}
    table.update({row.key: row for row in scores})
    write_scores(path, table.values())


def read_scores(path: Path) -> list[Score]:
    """Read and check a table.

    Raises
    ------
    DataError
        Naming file, line and value: a missing or unknown column, a value that is no number or cannot be
        true, or a key that stands twice.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or ()
            missing = [column for column in COLUMNS if column not in header]
            if missing or len(header) != len(COLUMNS):
                unknown = [column for column in header if column not in COLUMNS]
                raise DataError(
                    f"{path}:1: the columns must be {', '.join(COLUMNS)}"
                    f"{'; missing: ' + ', '.join(missing) if missing else ''}"
                    f"{'; unknown: ' + ', '.join(map(repr, unknown)) if unknown else ''}"
                )
            located = [
                (_parse(row, f"{path}:{reader.line_num}"), f"{path}:{reader.line_num}") for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table of scores: {error}") from error
    _unique(located)
    return [row for row, _ in located]


def _parse(row: dict[str, str | None], where: str) -> Score:
    # csv gives None for values that a short line lacks and a None key to those that a long line has too many
    if None in row or None in row.values():
        raise DataError(f"{where}: needs {len(COLUMNS)} values, one a column")
    text = {name: value or "" for name, value in row.items()}

    def number(name: str, kind: type[int] | type[float]) -> float:
        try:
            return kind(text[name])
        except ValueError:
            raise DataError(f"{where}: {name} is {text[name]!r}, not a number") from None

    try:
        return Score(
            method=text["method"],
            seed=int(number("seed", int)),
            site=text["site"],
            subject=text["subject"],
            session=text["session"] or None,
            task=text["task"],
            psnr_db=number("psnr_db", float),
            ssim=number("ssim", float),
            nrmse=number("nrmse", float),
            n_voxels=int(number("n_voxels", int)),
            data_range=number("data_range", float),
            mask=text["mask"],
        )
    except DataError as error:
        message = str(error)
        raise DataError(message if message.startswith(where) else f"{where}: {message}") from None


def _unique(located: Sequence[tuple[Score, str]]) -> None:
    seen = set()
    for row, where in located:
        if row.key in seen:
            raise DataError(
                f"{where}: {row.method} with seed {row.seed}, {row.subject} at {row.site}, {row.task} "
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
