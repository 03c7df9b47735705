"""A run folder as the report sees it: files only, and notes about what is missing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from polysite.errors import DataError
from polysite.evaluate.table import Score, read_scores
from polysite.report.events import Events, read_events
from polysite.report.examples import Example, read_example
from polysite.report.outlines import Outlines, read_outlines

Drawn = TypeVar("Drawn")


NO_SCORES = "it has no scores yet; run `polysite evaluate` on it"


@dataclass(frozen=True)
class RunFolder:
    """Everything that the report takes from one run; ``notes`` say what is missing or unfinished."""

    path: Path
    config: Mapping[str, Any]
    config_text: str
    method: str
    algorithm: str
    seed: int | None
    scores: list[Score]
    events: Events
    share_plan: Mapping[str, Any]
    splits: Mapping[str, Any]
    environment: Mapping[str, Any]
    examples: list[Example]
    outlines: list[Outlines]
    notes: list[str]

    @property
    def sites(self) -> list[str]:
        """Sites in the order of the configuration, then any others that the files name."""
        configured = self.config.get("sites")
        named = [str(site) for site in configured] if isinstance(configured, dict) else []
        return list(dict.fromkeys([*named, *self.events.sites, *(row.site for row in self.scores)]))

    @property
    def task(self) -> str:
        """The kind of task: that of the scores, else of the configuration."""
        task = self.config.get("task")
        named = str(task.get("name")) if isinstance(task, dict) else "synthesis"
        return self.scores[0].kind if self.scores else named

    @property
    def phantom_sites(self) -> list[str]:
        """Sites whose scans are procedural."""
        sites = self.config.get("sites")
        found = []
        for name, site in sites.items() if isinstance(sites, dict) else ():
            data = site.get("data") if isinstance(site, dict) else None
            if isinstance(data, dict) and data.get("format") == "phantom":
                found.append(str(name))
        return found


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Only config.yaml must be there; what else is missing becomes a note.

    Raises
    ------
    DataError
        If the folder is no run, or its configuration or scores are damaged.
    """
    text, config = _config(path)
    notes: list[str] = []
    algorithm = config.get("algorithm")
    algorithm = algorithm if isinstance(algorithm, dict) else {}
    name = str(algorithm.get("name", "unnamed"))
    preset = algorithm.get("preset")
    seed = config.get("seed")

    scores: list[Score] = []
    if (path / "scores.csv").exists():
        scores = read_scores(path / "scores.csv")
    if not scores:
        notes.append(NO_SCORES)

    events = Events()
    if (path / "events.jsonl").exists():
        events = read_events(path / "events.jsonl")
        if events.n_damaged:
            notes.append(f"events.jsonl has {events.n_damaged} damaged line(s), which are left out")
    planned = events.start.get("rounds")
    if not events.end:
        notes.append(
            f"training has not finished: {events.n_rounds} of {planned or 'unknown'} rounds are done"
        )

    task = config.get("task")
    segments = isinstance(task, dict) and task.get("name") == "segmentation"
    return RunFolder(
        path=path,
        config=config,
        config_text=text,
        method=str(config.get("label") or (f"{name}-{preset}" if preset else name)),
        algorithm=name,
        seed=seed if isinstance(seed, int) else None,
        scores=scores,
        events=events,
        share_plan=_json(path / "share_plan.json", notes),
        splits=_json(path / "splits.json", notes),
        environment=_json(path / "environment.json", notes),
        examples=[] if segments else _examples(path, read_example, notes),
        outlines=_examples(path, read_outlines, notes) if segments else [],
        notes=notes,
    )


def _config(path: Path) -> tuple[str, dict[str, Any]]:
    file = path / "config.yaml"
    if not file.is_file():
        what = "it has no config.yaml" if path.is_dir() else "there is no such folder"
        raise DataError(f"{path} is not a run: {what}; give the folder that `polysite train --out` wrote")
    try:
        text = file.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise DataError(f"{file}: must be a mapping of keys to values, not {type(config).__name__}")
    return text, config


def _json(file: Path, notes: list[str]) -> dict[str, Any]:
    if not file.exists():
        notes.append(f"it has no {file.name}")
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{file.name} cannot be read ({error})")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{file.name} is not a mapping")
        return {}
    return content


def _examples(path: Path, read: Callable[[Path], Drawn], notes: list[str]) -> list[Drawn]:
    examples = []
    for file in sorted((path / "predictions").glob("*/examples/*.npz")):
        try:
            examples.append(read(file))
        except DataError as error:
            notes.append(f"an example is left out: {error}")
    return examples
