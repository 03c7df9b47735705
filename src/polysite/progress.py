"""A run on the terminal: one bar, one line a site, the time left."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from polysite.config import Run
from polysite.events import Listener


@contextmanager
def shown(run: Run, first_round: int, console: Console) -> Iterator[Listener]:
    """A listener that keeps the terminal up to date; plain lines, one a round, where there is no terminal."""
    if not console.is_terminal:
        yield _Lines(run, console)
        return
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("site rounds"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    view = _View(run, first_round, bar)
    with Live(view, console=console, refresh_per_second=4) as live:
        yield view.listen
        live.update(view, refresh=True)


class _View:
    """What the terminal shows now."""

    def __init__(self, run: Run, first_round: int, bar: Progress) -> None:
        self._rounds = run.training.rounds
        self._bar, self._run, self._first = bar, run, first_round
        self._task = bar.add_task(f"{run.method} seed {run.seed}", total=None)
        self._sites: dict[str, dict[str, Any]] = {}

    def listen(self, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            n_sites = len(event["sites"])
            self._bar.update(self._task, total=self._rounds * n_sites, completed=self._first * n_sites)
        if event["event"] == "site":
            self._sites[event["site"]] = event
            self._bar.advance(self._task)

    def __rich__(self) -> Group:
        return Group(_table(self._sites, self._rounds), self._bar)


class _Lines:
    """One line a round, for logs."""

    def __init__(self, run: Run, console: Console) -> None:
        self._console, self._rounds, self._name = (
            console,
            run.training.rounds,
            f"{run.method} seed {run.seed}",
        )
        self._sites: dict[str, dict[str, Any]] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "site":
            self._sites[event["site"]] = event
        if event["event"] == "round":
            parts = [
                f"{name} l1 {site['losses'].get('l1', float('nan')):.4f}"
                for name, site in self._sites.items()
            ]
            self._console.print(
                f"{self._name}: round {event['round'] + 1}/{self._rounds}, "
                f"{event['seconds']:.1f} s: {', '.join(parts)}",
                soft_wrap=True,
            )


def _table(sites: dict[str, dict[str, Any]], rounds: int) -> Table:
    table = Table(box=None, pad_edge=False)
    losses = list(dict.fromkeys(name for event in sites.values() for name in event["losses"]))
    for title in ("site", "round", *losses, "validation", "seconds"):
        table.add_column(title, justify="left" if title == "site" else "right")
    for name, event in sites.items():
        validation = event.get("validation") or {}
        table.add_row(
            name,
            f"{event['round'] + 1}/{rounds}",
            *(f"{event['losses'].get(loss, float('nan')):.4f}" for loss in losses),
            f"{validation['psnr_db']:.2f} dB" if "psnr_db" in validation else "",
            f"{event['seconds']:.1f}",
        )
    return table


def console() -> Console:
    """The terminal for messages and progress: standard error, so that results can be piped."""
    return Console(file=sys.stderr, highlight=False)
