"""Slices of a volume on disk, read one by one: no file stays open, so a site may have any number of volumes.

A memory map keeps its file open until it is forgotten; with a thousand volumes that is more than a process may
have. What was read lately lies in the system's own cache either way.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.errors import DataError


@dataclass(frozen=True)
class StoredSlices:
    """A C-ordered ``.npy`` file as a sequence of what its first axis counts.

    Attributes
    ----------
    path : Path
        The file.
    offset : int
        Its first value's byte.
    shape : tuple of int
        Of the whole array, (z, x, y).
    dtype : numpy dtype
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[Any]:
        """One slice, read now.

        Raises
        ------
        IndexError
            If there is none of that number.
        DataError
            If the file is gone or cut short.
        """
        if not 0 <= index < self.shape[0]:
            raise IndexError(f"{self.path}: has {self.shape[0]} slices, none of number {index}")
        n = math.prod(self.shape[1:])
        try:
            read = np.fromfile(
                self.path, self.dtype, count=n, offset=self.offset + int(index) * n * self.dtype.itemsize
            )
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read: {error.strerror}; go on with --resume, which prepares it again"
            ) from error
        if read.size != n:
            raise DataError(f"{self.path}: is cut short; go on with --resume, which prepares it again")
        return read.reshape(self.shape[1:])


def stored_slices(path: Path) -> StoredSlices:
    """The slices of an ``.npy`` file that this project wrote; opens it for its header alone."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return StoredSlices(path, int(mapped.offset), mapped.shape, mapped.dtype)
