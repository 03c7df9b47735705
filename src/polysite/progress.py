"""A run on the terminal: one bar, one line a site, the time left; in a log, few lines."""

import sys
from collections.abc import Callable, Iterator, Mapping
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
from rich.status import Status
from rich.table import Table
from rich.text import Text

from polysite.config.run import Run
from polysite.events import Listener

Tell = Callable[[str], None]
"""Takes ``SITE: what happens [sub-…]``."""


def console() -> Console:
    """The terminal for messages and progress: standard error, so that results can be piped."""
    return Console(file=sys.stderr, highlight=False)


@contextmanager
def telling(console: Console) -> Iterator[Tell]:
    """Tells what is done now: on a terminal in one line that goes away, in a log once a site."""
    if not console.is_terminal:
        yield _Once(console)
        return
    status = Status("", console=console)

    def tell(text: str) -> None:
        status.update(Text(text))
        status.start()

    try:
        yield tell
    finally:
        status.stop()


class _Once:
    """Prints what comes before the case's name, and each of it once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: set[str] = set()

    def __call__(self, text: str) -> None:
        what = text.partition(" sub-")[0]
        if what and what not in self._told:
            self._told.add(what)
            self._console.print(what, soft_wrap=True, markup=False)


@contextmanager
def shown(run: Run, first_round: int, console: Console) -> Iterator[tuple[Listener, Tell]]:
    """A listener that keeps the terminal up to date, and how to tell what goes before the first round.

    Where there is no terminal: plain lines, one a round.
    """
    if not console.is_terminal:
        yield _Lines(run, console), _Once(console)
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
        yield view.listen, view.tell
        live.update(view, refresh=True)


class _View:
    """What the terminal shows now."""

    def __init__(self, run: Run, first_round: int, bar: Progress) -> None:
        self._rounds = run.training.rounds
        self._bar, self._first = bar, first_round
        self._task = bar.add_task(f"{run.method} seed {run.seed}", total=None)
        self._sites: dict[str, dict[str, Any]] = {}
        self._now = ""

    def tell(self, text: str) -> None:
        self._now = text

    def listen(self, event: dict[str, Any]) -> None:
        if text := _at_a_hospital(event):
            self._bar.console.print(text, soft_wrap=True, markup=False)
        if event["event"] == "start":
            self._now = ""
            n_sites = len(event["sites"])
            self._bar.update(self._task, total=self._rounds * n_sites, completed=self._first * n_sites)
        if event["event"] == "site":
            self._sites[event["site"]] = event
            self._bar.advance(self._task)

    def __rich__(self) -> Group:
        parts = [_table(self._sites, self._rounds)] if self._sites else []
        return Group(*parts, *([Text(self._now)] if self._now else []), self._bar)


class _Lines:
    """One line a round, for logs."""

    def __init__(self, run: Run, console: Console) -> None:
        self._console, self._rounds = console, run.training.rounds
        self._name = f"{run.method} seed {run.seed}"
        self._sites: dict[str, dict[str, Any]] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        if text := _at_a_hospital(event):
            self._console.print(text, soft_wrap=True, markup=False)
        if event["event"] == "site":
            self._sites[event["site"]] = event
        if event["event"] == "round":
            parts = [f"{name} {_main_loss(site['losses'])}" for name, site in self._sites.items()]
            self._console.print(
                f"{self._name}: round {event['round'] + 1}/{self._rounds}, "
                f"{event['seconds']:.1f} s: {', '.join(parts)}",
                soft_wrap=True,
                markup=False,
            )


def _at_a_hospital(event: Mapping[str, Any]) -> str:
    """What happened at a hospital's end of a run across hospitals, in a line."""
    site = event.get("site")
    match event["event"]:
        case "came":
            return f"{site}: is there"
        case "left":
            return f"{site}: is gone: {event['why']}"
        case "absent":
            return f"{event['what']} without {event['why']}"
        case "late":
            return f"{site}: its answer to round {event['of_round'] + 1} came too late and was not used"
    return ""


def _main_loss(losses: Mapping[str, float]) -> str:
    """The loss that says most: its name and value."""
    name = next((name for name in ("l1", "dice_loss") if name in losses), next(iter(losses), None))
    return f"{name} {losses[name]:.4f}" if name else ""


def _validated(validation: Mapping[str, float]) -> str:
    if "psnr_db" in validation:
        return f"{validation['psnr_db']:.2f} dB"
    return f"Dice {validation['dice']:.3f}" if "dice" in validation else ""


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
            _validated(validation),
            f"{event['seconds']:.1f}",
        )
    return table
