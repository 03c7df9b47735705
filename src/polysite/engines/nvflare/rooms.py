"""Where parcels are written down while they arrive: in memory, or in files; both are used again."""

import mmap
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np

from polysite.federation.memory import Memory

MOST_FREE = 4
"""Files that nobody reads and that stay, as large as they are, to be used again."""


class Room(ABC):
    """For one parcel."""

    @abstractmethod
    def write(self, piece: memoryview) -> None:
        """Write down the next bytes; an `OSError` if that cannot be done."""

    @abstractmethod
    def content(self) -> memoryview:
        """All that was written, when it is whole; it can be written to, and the room is used again after it."""

    def rest(self) -> None:
        """Let go of the memory that reading the content took, if it can be read again; not after it was written to."""
        return

    @abstractmethod
    def close(self) -> None:
        """Let go of what did not arrive whole."""


class InMemory(Room):
    """A room in memory."""

    def __init__(self, memory: Memory, n_bytes: int) -> None:
        self._content, self._at = memory.take(n_bytes), 0

    def write(self, piece: memoryview) -> None:
        self._content[self._at : self._at + len(piece)] = piece
        self._at += len(piece)

    def content(self) -> memoryview:
        return self._content

    def close(self) -> None:
        self._content = memoryview(b"")


class Files:
    """Files that nobody else sees, in a folder; they are gone when they are closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free: list[BinaryIO] = []
        self._closed = False

    def room(self) -> "InFile":
        """A room in a file that nobody reads any more, or in a new one."""
        try:
            file = self._free.pop()
        except IndexError:
            file = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (closed by who lets go of it)
        return InFile(file, self._back)

    def close(self) -> None:
        """Close the files; those that are still read when nobody does so any more."""
        self._closed = True
        while self._free:
            self._free.pop().close()

    def _back(self, file: BinaryIO) -> None:
        """Take a file that nobody reads any more."""
        if self._closed or len(self._free) >= MOST_FREE:
            file.close()
        else:
            file.seek(0)
            self._free.append(file)


class InFile(Room):
    """A room in a file."""

    def __init__(self, file: BinaryIO, back: Callable[[BinaryIO], None]) -> None:
        self._file, self._back = file, back
        self._mapped: mmap.mmap | None = None

    def write(self, piece: memoryview) -> None:
        while len(piece):
            piece = piece[self._file.write(piece) :]

    def content(self) -> memoryview:
        """In memory only as far as it is read, or written to."""
        self._mapped = mmap.mmap(self._file.fileno(), self._file.tell(), access=mmap.ACCESS_COPY)
        array = np.frombuffer(self._mapped, np.uint8)
        weakref.finalize(array, self._back, self._file).atexit = False
        return array.data

    def rest(self) -> None:
        if self._mapped is not None:
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        self._file.close()
