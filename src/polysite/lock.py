"""One process at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polysite.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; two trainings in one folder are then the user's care
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder; the operating system lets go of it when the process ends, however it ends.

    Raises
    ------
    CheckpointError
        If another process holds it, or the folder cannot be locked.
    """
    with _lock_file(folder) as descriptor:
        try:
            _lock(folder, descriptor, wait=False)
        except BlockingIOError as error:
            raise CheckpointError(
                f"{folder}: another process works in this folder; end it first, or wait for its end"
            ) from error
        yield


def held(folder: Path) -> bool:
    """Whether a process holds a folder now."""
    if fcntl is None or not (folder / ".lock").exists():
        return False
    with (folder / ".lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Hold a folder as soon as no other process holds it.

    Raises
    ------
    CheckpointError
        If the folder cannot be locked.
    """
    with _lock_file(folder) as descriptor:
        _lock(folder, descriptor, wait=True)
        yield


@contextmanager
def _lock_file(folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be written to: {error.strerror}; make it writable, or copy the run and go on there"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(folder: Path, descriptor: int, *, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be locked: {error.strerror}; choose a folder on a local disk"
        ) from error
