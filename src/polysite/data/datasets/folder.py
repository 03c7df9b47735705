"""The files below a folder, whatever the folder: no loop, no endless search, nothing unreadable in the way."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polysite.data.datasets.dataset import Skipped
from polysite.errors import DataError

DEEPEST = 8
"""Folders below the root that are looked into; no layout here has more than six."""
MOST = 1_000_000
"""Files and folders that are looked at; the largest data set here has a tenth of it."""


@dataclass(frozen=True)
class Folder:
    """A data set's folder and all files below it, in a fixed order, with what could not be looked into."""

    root: Path
    files: tuple[Path, ...]
    skipped: tuple[Skipped, ...]

    def below(self, path: Path) -> str:
        """A file's path below the root, with ``/`` between folders."""
        return path.relative_to(self.root).as_posix()

    def inside(self, path: Path, names: Sequence[str]) -> str:
        """The first of these names that a folder above a file begins with, whatever its case; or nothing.

        ``Training`` and ``Training-corrected`` both begin with ``training``.
        """
        folders = [part.lower() for part in path.relative_to(self.root.parent).parts[:-1]]
        return next((name for name in names if any(part.startswith(name.lower()) for part in folders)), "")

    def named(self, pattern: str) -> list[Path]:
        """The files whose name fits a regular expression as a whole, whatever their case."""
        return [path for path in self.files if re.fullmatch(pattern, path.name, re.IGNORECASE)]


def files_below(root: Path) -> Folder:
    """All files below a folder, sorted; names that begin with a dot are left out.

    Links are followed, but no folder is entered twice.

    Raises
    ------
    DataError
        If the folder is missing or cannot be read, or holds too much to be one data set.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that holds the data set's files")
    files: list[Path] = []
    skipped: list[Skipped] = []
    entered: set[tuple[int, int]] = set()
    too_deep: list[Path] = []
    n_seen = 0
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                skipped.append(Skipped(folder, "is a link to a folder that was looked into already"))
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise DataError(f"{root}: cannot be read: {error.strerror}; check its permissions") from error
            skipped.append(Skipped(folder, f"cannot be read: {error.strerror}"))
            continue
        n_seen += len(entries)
        if n_seen > MOST:
            raise DataError(f"{root}: holds more than {MOST:,} files; give the data set's own folder")
        folders = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if _is(entry, "dir"):
                if depth == DEEPEST:
                    too_deep.append(path)
                else:
                    folders.append((path, depth + 1))
            elif _is(entry, "file"):
                files.append(path)
            elif entry.is_symlink():
                skipped.append(Skipped(path, "is a link to nothing; fetch the file it stands for"))
        waiting += reversed(folders)
    deep = together(too_deep, f"folders that lie more than {DEEPEST} deep")
    return Folder(root, tuple(sorted(files)), (*skipped, *deep))


def _is(entry: "os.DirEntry[str]", kind: str) -> bool:
    """Whether an entry is a folder or a file; a link in a circle is neither."""
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class Group:
    """The files of one visit: what each one is (in the layout's word) to the file; notes on others like it."""

    files: dict[str, Path]
    notes: tuple[str, ...]

    @property
    def first(self) -> Path:
        """The first file."""
        return next(iter(self.files.values()))

    def under(self, words: Iterable[tuple[str, str]]) -> dict[str, Path]:
        """The files by their names here, given pairs of name and the layout's word."""
        return {name: self.files[word] for name, word in words if word in self.files}


def grouped(folder: Folder, pattern: str) -> dict[str, Group]:
    """Files by the groups ``key`` (whose) and ``kind`` (what) of a regular expression, in order of the keys.

    The expression is sought at the end of the path below the root, from the beginning of a name. Of several
    files of one key and kind the first is taken, and the others are noted.
    """
    expression = re.compile(f"(?:^|/)(?:{pattern})$")
    groups: dict[str, Group] = {}
    for path in folder.files:
        match = expression.search(folder.below(path))
        if not match:
            continue
        group = groups.setdefault(match["key"], Group({}, ()))
        taken = group.files.setdefault(match["kind"], path)
        if taken != path:
            note = f"{folder.below(path)} was passed over for {folder.below(taken)}"
            groups[match["key"]] = Group(group.files, (*group.notes, note))
    return dict(sorted(groups.items()))


def together(paths: Sequence[Path], reason: str) -> list[Skipped]:
    """Many files that are skipped for one reason, told of once."""
    return [Skipped(paths[0].parent, f"{len(paths)} × {reason}")] if paths else []
