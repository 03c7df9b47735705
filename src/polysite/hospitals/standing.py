"""How a run stands, at the server or at a hospital, from the files of its folder alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polysite.config.run import Run
from polysite.errors import CheckpointError
from polysite.lock import held
from polysite.report.events import Events, read_events
from polysite.run import done_rounds, open_run


@dataclass(frozen=True)
class SiteStanding:
    """One site: whether it is there, what it did last, and what it missed."""

    site: str
    state: str
    last_round: int | None
    """From 1."""
    loss: str
    seconds: float | None
    bytes_out: int
    n_missed: int
    why: str
    """Why the others last went on without it, or the run stopped because of it."""

    def cells(self) -> list[str]:
        """A row of the table that `polysite status` shows, under `TITLES`."""
        missed = f"{self.n_missed}: {self.why}" if self.why else str(self.n_missed or "")
        return [
            self.site,
            self.state,
            str(self.last_round or ""),
            self.loss,
            "" if self.seconds is None else f"{self.seconds:.1f}",
            f"{self.bytes_out:,}",
            missed,
        ]


TITLES = ("site", "", "last round", "loss", "seconds", "bytes sent", "rounds missed, and why the last")


@dataclass(frozen=True)
class Standing:
    """A run."""

    folder: Path
    run: Run
    state: str
    done: int
    last: str
    """When something last happened; empty if nothing did."""
    sites: tuple[SiteStanding, ...]


def standings(folder: Path) -> list[Standing]:
    """How a run folder stands, or all run folders of a hospital's store, in the order of their last events.

    Raises
    ------
    CheckpointError
        If the folder is neither.
    """
    if (folder / "config.yaml").exists():
        return [_standing(folder)]
    inner = [path.parent for path in sorted(folder.glob("*/config.yaml"))]
    if not inner:
        raise CheckpointError(f"{folder}: is neither a run folder nor a hospital's store with runs in it")
    return sorted((_standing(path) for path in inner), key=lambda standing: standing.last)


def _standing(folder: Path) -> Standing:
    run, path = open_run(folder), folder / "events.jsonl"
    events = read_events(path) if path.exists() else Events()
    running, ended = held(folder), (folder / "models.json").exists()
    sites = list(run.here) or list(run.sites)
    stopped = not (running or ended)
    standings = tuple(
        _site(site, events, running=running, stopped=stopped, away=not run.here) for site in sites
    )
    done = (
        done_rounds(run, folder) if not run.here else max((s.last_round or 0 for s in standings), default=0)
    )
    everything = [events.start, events.end, *events.at_sites.values(), *events.presence.values()]
    last = max((str(event.get("time", "")) for event in everything), default="")
    state = "stopped" if stopped else "running" if running else "ended"
    without = _without_model(folder, sites) if ended else []
    if without:
        state += f"; {', '.join(without)} without a model"
    return Standing(folder, run, state, done, last, standings)


def _site(site: str, events: Events, *, running: bool, stopped: bool, away: bool) -> SiteStanding:
    rounds = [round_ for at, round_ in events.at_sites if at == site]
    last = events.at_sites[site, max(rounds)] if rounds else {}
    losses = last.get("losses") or {}
    name, value = next(iter(losses.items()), ("", None))
    return SiteStanding(
        site=site,
        state=_presence(events.presence.get(site), running=running) if away else "",
        last_round=max(rounds) + 1 if rounds else None,
        loss=f"{name} {value:.4f}" if isinstance(value, int | float) else "",
        seconds=last.get("seconds"),
        bytes_out=events.total(site, "bytes_out"),
        n_missed=len(events.missed(site)),
        why=str(events.absent.get(site, {}).get("why", "")) if stopped or events.missed(site) else "",
    )


def _presence(event: Mapping[str, Any] | None, *, running: bool) -> str:
    if not running:
        return ""
    if event is None:
        return "not there yet"
    return "there" if event["event"] == "came" else f"gone since {str(event.get('time'))[:19]}"


def _without_model(folder: Path, sites: list[str]) -> list[str]:
    try:
        sealed = json.loads((folder / "models.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'models.json'}: is cut short or altered") from error
    return [site for site in sites if site not in sealed]
