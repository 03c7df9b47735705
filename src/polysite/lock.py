"""One process at a time in a run folder."""

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
        If another process holds it.
    """
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be written to: {error.strerror}; make it writable, or copy the run and go on there"
        ) from error
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(
                    f"{folder}: another process is training in this folder; wait for it"
                ) from error
            except OSError as error:
                raise CheckpointError(
                    f"{folder}: cannot be locked: {error.strerror}; choose --out on a local disk"
                ) from error
        yield
    finally:
        os.close(descriptor)
