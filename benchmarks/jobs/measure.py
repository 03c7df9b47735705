"""One case measured from outside: the same way for every engine."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jobs.job import Case, Command
from jobs.watch import Watch, peaks

FIRST_WARM = 1
"""The first round builds what the later ones use."""


class Failed(Exception):
    """The engine did not do the job; what it said last."""


@dataclass(frozen=True)
class Row:
    """What a case cost; seconds and bytes.

    Parameters
    ----------
    overheads : list of float
        Of each warm round: from its first step at any site to the next round's, less the time in which a site works.
    server, site, all : int
        Peaks of the memory of all processes of each; ``site`` is that of the largest, 0 where the sites have no
        process of their own.
    """

    first_step: float
    overheads: list[float]
    server: int
    site: int
    all: int
    end: float

    @property
    def overhead(self) -> float:
        """The median."""
        return statistics.median(self.overheads)


def measure(case: Case, commands: list[Command], limit_s: float, limit_bytes: int) -> Row:
    """Start the commands, wait until all has ended, and read the sites' notes.

    Raises
    ------
    Failed
        If a command fails, a limit is reached, or a site did not get what it should.
    """
    watch = Watch()
    try:
        begin = watch.start(commands, case.folder)
        while not watch.done():
            time.sleep(0.02)
            if failed := watch.failed():
                raise Failed(f"{failed[0]} failed: {_last_words(case, failed[0])}")
            if time.monotonic() - begin > limit_s:
                raise Failed(f"not done after {limit_s:.0f} s: {_last_words(case, commands[0].role)}")
            if watch.total() > limit_bytes:
                raise Failed(f"stopped when it used {watch.total() / 1e9:.0f} GB")
        if failed := watch.failed():
            raise Failed(f"{failed[0]} failed: {_last_words(case, failed[0])}")
    except OSError as error:
        raise Failed(f"cannot be started: {error}") from error
    finally:
        end = watch.end()
    notes = _notes(case)
    starts, spans = [], []
    for round_ in range(case.rounds):
        now = [notes[site][round_] for site in case.sites]
        starts.append(min(note["start"] for note in now))
        spans.append(_covered([(note["start"], note["end"]) for note in now]))
    walls = [late - early for early, late in pairwise(starts)]
    workers = {note["process"] for site in case.sites for note in notes[site]} - watch.roots
    owner = {process: _owner(process, role, workers) for process, role in watch.roles.items()}
    most = peaks(watch.samples, owner)
    last = max(notes[site][-1]["end"] for site in case.sites)
    return Row(
        first_step=starts[0] - begin,
        overheads=[wall - span for wall, span in list(zip(walls, spans, strict=False))[FIRST_WARM:]],
        server=most["server"],
        site=max((bytes_ for name, bytes_ in most.items() if name.startswith("site")), default=0),
        all=most["all"],
        end=end - last,
    )


def _owner(process: int, role: str, workers: set[int]) -> str:
    """Whose memory a process is. Where one command starts all, a process that works is a site; it may serve several."""
    if role != "all":
        return role
    return f"site process {process}" if process in workers else "server"


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _notes(case: Case) -> dict[str, list[dict[str, Any]]]:
    """Each site's notes, a line a round, if the averages that arrived are right."""
    notes = {}
    for site in case.sites:
        path = case.notes / f"{site}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        notes[site] = [json.loads(line) for line in lines]
        arrived = [note["arrived"] for note in notes[site]]
        due = [[float(round_)] * 2 for round_ in range(case.rounds)]
        if arrived != due:
            raise Failed(f"{site} got {arrived} where {due} is due: {_last_words(case, 'all')}")
    return notes


def _last_words(case: Case, role: str) -> str:
    """The last lines of a command's log that have words."""
    path = case.folder / f"{role}.log"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = [words for line in text.splitlines() if (words := line.strip(" │╭╮╰╯─=|"))]
    return " / ".join(lines[-3:])[-400:] or "it said nothing"
