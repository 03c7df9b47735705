"""One run across hospitals, put together again: each hospital's folder holds its own scores, splits and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from polysite.report.events import Events
from polysite.report.run_folder import NO_SCORES, RunFolder


def put_together(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The runs, with the folders of one run across hospitals as one, where the first of them stood.

    Folders belong together if their configurations are the same without the sites' data, and no site's scans lie in
    two of them. The server's folder, in which no scans lie, may be among them.
    """
    groups: dict[str, list[RunFolder]] = {}
    for run in runs:
        key = str(run.path)
        if _away(run):
            shared = yaml.safe_dump(_without_data(run.config), sort_keys=True)
            own = set(_here(run))
            key = next(
                (
                    known
                    for known, parts in groups.items()
                    if known.endswith(shared) and not any(own & set(_here(part)) for part in parts)
                ),
                f"{run.path}\n{shared}",
            )
        groups.setdefault(key, []).append(run)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in groups.values()]


def _joined(parts: Sequence[RunFolder]) -> RunFolder:
    scores = [row for part in parts for row in part.scores]
    sites = dict(parts[0].config["sites"])
    for part in parts:
        sites |= {site: part.config["sites"][site] for site in _here(part)}
    config = {**parts[0].config, "sites": sites}
    notes = [f"{part.path.name}: {note}" for part in parts for note in part.notes]
    return replace(
        parts[0],
        config=config,
        config_text=yaml.safe_dump(config, sort_keys=False),
        scores=scores,
        events=_events([part.events for part in parts]),
        splits={site: split for part in parts for site, split in part.splits.items()},
        examples=[example for part in parts for example in part.examples],
        outlines=[outlines for part in parts for outlines in part.outlines],
        notes=[note for note in notes if not (scores and note.endswith(NO_SCORES))],
    )


def _events(parts: Sequence[Events]) -> Events:
    """What all saw together; a run has ended if it has at each."""
    starts = [part.start for part in parts if part.start]
    return Events(
        start={
            **starts[0],
            "sites": list(dict.fromkeys(s for start in starts for s in start.get("sites", []))),
        }
        if starts
        else {},
        end=next((part.end for part in parts), {}) if all(part.end for part in parts) else {},
        at_sites={key: event for part in parts for key, event in part.at_sites.items()},
        rounds={round_: event for part in parts for round_, event in part.rounds.items()},
        presence={site: event for part in parts for site, event in part.presence.items()},
        absent={site: event for part in parts for site, event in part.absent.items()},
        n_damaged=sum(part.n_damaged for part in parts),
    )


def _sites(run: RunFolder) -> Mapping[str, Any]:
    sites = run.config.get("sites")
    return sites if isinstance(sites, dict) else {}


def _away(run: RunFolder) -> list[str]:
    """Sites whose scans are elsewhere."""
    return [
        str(name)
        for name, site in _sites(run).items()
        if isinstance(site, dict)
        and isinstance(site.get("data"), dict)
        and site["data"].get("format") == "elsewhere"
    ]


def _here(run: RunFolder) -> list[str]:
    away = _away(run)
    return [str(name) for name in _sites(run) if name not in away]


def _without_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the hospitals agreed on: nothing of a machine, and nothing of a site's scans."""
    machines = ("cache", "device", "engine", "split")
    kept = {key: value for key, value in config.items() if key not in machines}
    kept["sites"] = {
        name: {key: value for key, value in site.items() if key != "data"} if isinstance(site, dict) else site
        for name, site in config["sites"].items()
    }
    return kept
