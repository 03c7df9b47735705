"""What happened in a run, one JSON object a line, and those who listen while it happens."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polysite.errors import CheckpointError

Listener = Callable[[dict[str, Any]], None]


class EventLog:
    """Appends events to ``events.jsonl`` and tells the listeners."""

    def __init__(self, path: Path, listeners: Sequence[Listener] = ()) -> None:
        self._path, self._listeners = path, listeners
        try:
            _end_line(path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event with the time; it is on its way to the disk when this returns."""
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
        try:
            self._file.write((json.dumps(event) + "\n").encode())
        except OSError as error:
            raise self._unwritable(error) from error
        for listener in self._listeners:
            listener(event)

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"{self._path}: cannot be written: {error.strerror}; finished rounds are safe: make room, "
            "then go on with --resume"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _end_line(path: Path) -> None:
    """End a last line that a killed process cut short, so that the next event stands on its own."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
