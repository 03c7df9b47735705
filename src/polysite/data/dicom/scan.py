"""A folder walked once: its files, numbered, grouped into series."""

import filecmp
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from polysite.data.dicom.header import Header, header_of
from polysite.data.dicom.reading import Damaged, require_pydicom
from polysite.errors import DataError

MAX_FILES = 2_000_000
MAX_DEPTH = 32

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Listed:
    """A file of the folder: its path, and what shows that it changed."""

    path: Path
    size: int
    time_ns: int


@dataclass
class Series:
    """The files of one SeriesInstanceUID in one study.

    Attributes
    ----------
    number : int
        Counted in the order of the files; messages name a series by it.
    files : list of (int, Listed, Header)
        With the file's number, from 1, in the folder.
    damaged : list of (int, str)
        Files that belong to it, or may, and cannot be read.
    n_copies : int
        Files that repeat another one, byte for byte.
    """

    number: int
    files: list[tuple[int, Listed, Header]] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    n_copies: int = 0

    @property
    def first(self) -> Header:
        """The header of the first file."""
        return self.files[0][2]

    @property
    def n_frames(self) -> int:
        """Pictures in all files."""
        return sum(len(header.frames) for _, _, header in self.files)


@dataclass
class Scan:
    """What a folder holds.

    Attributes
    ----------
    files : list of Listed
        All files, sorted by path; a file's number is its place in this list, from 1.
    damaged : list of (int, str)
        Numbers of DICOM files that cannot be read, and why.
    n_other, n_not_dicom : int
        DICOM objects that are no MR images; files that are not DICOM.
    """

    root: Path
    files: list[Listed]
    series: list[Series] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    n_other: int = 0
    n_not_dicom: int = 0


def list_files(root: Path) -> list[Listed]:
    """All plain files below a folder (or the file itself), each once whatever links lead to it.

    Raises
    ------
    DataError
        If there is no such folder, it cannot be listed, or holds too much.
    """
    found: list[Listed] = []
    seen: set[tuple[int, int]] = set()

    def visit(path: Path, depth: int) -> None:
        try:
            status = path.stat()
        except OSError:
            return  # a link that leads nowhere, or in a circle
        key = (status.st_dev, status.st_ino)
        if key in seen:
            return
        seen.add(key)
        if stat.S_ISREG(status.st_mode):
            if len(found) == MAX_FILES:
                raise DataError(f"the folder holds more than {MAX_FILES} files; give one that lies deeper")
            found.append(Listed(path, status.st_size, status.st_mtime_ns))
        elif stat.S_ISDIR(status.st_mode):
            if depth > MAX_DEPTH:
                raise DataError(
                    f"folders lie in one another more than {MAX_DEPTH} deep; give one that lies deeper"
                )
            try:
                names = sorted(os.listdir(path))  # noqa: PTH208
            except OSError as error:
                raise DataError(
                    f"a folder below the given one cannot be listed: {error.strerror}; make it readable"
                ) from None
            for name in names:
                visit(path / name, depth + 1)

    if not root.exists():
        raise DataError("there is no such folder")
    visit(root, 0)
    return sorted(found, key=lambda listed: str(listed.path))


def scan(root: Path, files: list[Listed] | None = None, progress: Progress | None = None) -> Scan:
    """Read every header below a folder and group the images into series.

    Parameters
    ----------
    files : list of Listed, optional
        What `list_files` gave.
    progress : callable, optional
        Told with a line of text now and then.
    """
    require_pydicom()
    result = Scan(root, list_files(root) if files is None else files)
    by_uid: dict[tuple[str, str], Series] = {}
    lost: list[tuple[int, str, str | None]] = []
    for number, listed in enumerate(result.files, start=1):
        if progress and number % 1000 == 0:
            progress(f"reading header {number} of {len(result.files)}")
        try:
            header = header_of(listed.path)
        except Damaged as error:
            lost.append((number, str(error), error.series))
            continue
        except OSError as error:
            lost.append((number, f"cannot be read: {error.strerror}", None))
            continue
        if isinstance(header, str):
            result.n_other += header == "other"
            result.n_not_dicom += header == "not DICOM"
            continue
        key = (header.study, header.series)
        series = by_uid.setdefault(key, Series(len(by_uid) + 1))
        series.files.append((number, listed, header))
    result.series = list(by_uid.values())
    result.damaged = [(number, why) for number, why, _ in lost]
    for series in result.series:
        _drop_copies(series)
    for number, why, uid in lost:
        for series in _suspects(result, number, uid):
            series.damaged.append((number, why))
    return result


def _suspects(result: Scan, number: int, uid: str | None) -> Iterator[Series]:
    """The series that a damaged file belongs to; if that cannot be read, those in the same folder."""
    folder = result.files[number - 1].path.parent
    for series in result.series:
        if uid is None:
            if any(listed.path.parent == folder for _, listed, _ in series.files):
                yield series
        elif series.first.series == uid:
            yield series


def _drop_copies(series: Series) -> None:
    """Keep one of files with the same bytes; others of one UID stay, and are found to lie at one place."""
    kept: dict[str, tuple[int, Listed, Header]] = {}
    files = []
    for entry in series.files:
        first = kept.setdefault(entry[2].instance, entry)
        if first is entry or not _same_bytes(first[1].path, entry[1].path):
            files.append(entry)
        else:
            series.n_copies += 1
    series.files = files


def _same_bytes(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False  # the error would name the file; read again for its pixels, it is told of by its number
