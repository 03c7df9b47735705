"""What happened in a run, one JSON object a line, and those who listen while it happens."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Listener = Callable[[dict[str, Any]], None]


class EventLog:
    """Appends events to ``events.jsonl`` and tells the listeners."""

    def __init__(self, path: Path, listeners: Sequence[Listener] = ()) -> None:
        _end_line(path)
        self._file = path.open("a", encoding="utf-8")
        self._listeners = listeners

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event with the time; it is on its way to the disk when this returns."""
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        for listener in self._listeners:
            listener(event)

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
