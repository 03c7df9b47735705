"""What a run wrote while it trained: events.jsonl, which may end in the middle of a line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from polysite.errors import DataError


@dataclass(frozen=True)
class Events:
    """The events of a run; of a round that was done twice, the last counts.

    ``at_sites`` maps (site, round from 0) to that event; ``n_damaged`` counts lines before the last that
    are no event. Of a run across hospitals ``presence`` maps a site to the last time that it came or went, and
    ``absent`` to the last time that the others went on without it.
    """

    start: Mapping[str, Any] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)
    at_sites: Mapping[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    rounds: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    presence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    n_damaged: int = 0

    def missed(self, site: str) -> list[int]:
        """Rounds (from 0) that were done without a site."""
        return [round_ for round_ in sorted(self.rounds) if (site, round_) not in self.at_sites]

    @property
    def sites(self) -> list[str]:
        """Sites in the order of their first event."""
        return list(dict.fromkeys(site for site, _ in self.at_sites))

    @property
    def n_rounds(self) -> int:
        """Rounds that every site has done."""
        done = [{round_ for site, round_ in self.at_sites if site == name} for name in self.sites]
        return len(set.intersection(*done)) if done else 0

    def names(self, group: str) -> list[str]:
        """The values that a group ("losses" or "validation") has at any site."""
        groups = (event.get(group) for event in self.at_sites.values())
        return list(dict.fromkeys(name for values in groups if isinstance(values, dict) for name in values))

    def series(self, site: str, group: str, name: str) -> list[tuple[int, float]]:
        """(round from 0, value) of one site in the order of rounds, without what is missing or not finite."""
        points = []
        for (at, round_), event in sorted(self.at_sites.items(), key=lambda item: item[0][1]):
            values = event.get(group)
            value = _number(values.get(name)) if at == site and isinstance(values, dict) else None
            if value is not None:
                points.append((round_, value))
        return points

    def total(self, site: str, name: str) -> int:
        """Sum over rounds of a count, for example ``bytes_out``."""
        return int(
            sum(_number(event.get(name)) or 0 for (at, _), event in self.at_sites.items() if at == site)
        )


def read_events(path: Path) -> Events:
    """Read events.jsonl; lines that are cut or no event are skipped.

    Raises
    ------
    DataError
        If the file cannot be read at all.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    start: Mapping[str, Any] = {}
    end: Mapping[str, Any] = {}
    at_sites: dict[tuple[str, int], Mapping[str, Any]] = {}
    rounds: dict[int, Mapping[str, Any]] = {}
    presence: dict[str, Mapping[str, Any]] = {}
    absent: dict[str, Mapping[str, Any]] = {}
    n_damaged = 0
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        event = _event(line)
        kind, round_ = event.get("event"), event.get("round")
        if kind == "start":
            # a resumed run starts again: what ended before it has not ended now
            start, end = event, {}
        elif kind == "end":
            end = event
        elif kind == "site" and isinstance(round_, int) and isinstance(event.get("site"), str):
            at_sites[event["site"], round_] = event
        elif kind == "round" and isinstance(round_, int):
            rounds[round_] = event
        elif kind in ("came", "left") and isinstance(event.get("site"), str):
            presence[event["site"]] = event
        elif kind == "absent" and isinstance(event.get("site"), str):
            absent[event["site"]] = event
        elif kind is None or kind in ("site", "round"):
            n_damaged += index < len(lines) - 1
    return Events(start, end, at_sites, rounds, presence, absent, n_damaged)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)
