"""A site's work in the job that all engines do: add 1 to an array, and note when. No imports beyond Python's own.

Notes are lines of JSON in ``NOTES/SITE.jsonl``: seconds of the system's monotonic clock, which all processes share.
"""

import json
import os
import time
from pathlib import Path
from typing import Any


def add_one(array: Any, notes: str | Path, site: str) -> Any:
    """The array (one axis, NumPy's or torch's) with 1 added; in place, unless it is read-only.

    Its first and last value are noted as they arrived: after ``r`` rounds of averaging both must be ``r``.
    """
    start = time.monotonic()
    arrived = [float(array[0]), float(array[-1])]
    flags = getattr(array, "flags", None)
    if flags is not None and not flags.writeable:
        array = array + 1
    else:
        array += 1
    note = {"start": start, "end": time.monotonic(), "arrived": arrived, "process": os.getpid()}
    with (Path(notes) / f"{site}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(note) + "\n")
    return array
