"""A run from configuration to report: sites → rounds → evaluation → report."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from polysite import config
from polysite.cases import Progress, find_cases, prepare_cases, split_cases
from polysite.config import Run
from polysite.data.cache import PreparedCase
from polysite.data.split import load_splits, save_splits
from polysite.errors import CheckpointError, ConfigError
from polysite.events import EventLog, Listener
from polysite.federation.crew import assemble, make_algorithm, make_plans, make_task
from polysite.federation.server import federate
from polysite.federation.share import describe, explain
from polysite.federation.store import Store, saving
from polysite.lock import locked
from polysite.registry import lookup

Prepared = dict[str, dict[str, list[PreparedCase]]]


def plan(run: Run) -> dict[str, Any]:
    """What would leave each site; reads no data."""
    task, algorithm = make_task(run), make_algorithm(run)
    return describe(make_plans(run, task, algorithm))


def create(run: Run, folder: Path, progress: Progress | None = None) -> None:
    """Make a run folder: configuration, share plan, splits and environment."""
    if (folder / "config.yaml").exists():
        raise ConfigError(
            f"{folder}: holds a run already; continue it with --resume {folder} or choose another --out"
        )
    description = plan(run)
    found = find_cases(run, progress)
    splits = split_cases(run, found)
    folder.mkdir(parents=True, exist_ok=True)
    save_splits(folder / "splits.json", splits)
    (folder / "share_plan.txt").write_text(explain(description), encoding="utf-8")
    (folder / "share_plan.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(environment(run), indent=1), encoding="utf-8")
    temporary = folder / ".tmp-config.yaml"
    temporary.write_text(config.dump(run), encoding="utf-8")
    temporary.replace(folder / "config.yaml")  # last: its presence says that the folder is complete


def open_run(folder: Path) -> Run:
    """The configuration of a run folder."""
    path = folder / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"{folder}: is no run folder (it has no config.yaml)")
    return config.build(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def prepared_cases(run: Run, folder: Path, progress: Progress | None = None) -> Prepared:
    """The prepared cases of a run folder by its splits."""
    return prepare_cases(run, find_cases(run, progress), load_splits(folder / "splits.json"), progress)


def train(folder: Path, listeners: Sequence[Listener] = (), progress: Progress | None = None) -> None:
    """Run all rounds that a run folder still lacks."""
    with locked(folder), saving() as saver:
        run = open_run(folder)
        crew = assemble(run, prepared_cases(run, folder, progress), folder, saver)
        log = EventLog(folder / "events.jsonl", listeners)
        engine = lookup("engines", run.engine.name)(config.settings_of("engines", run.engine), crew)
        try:
            log(
                {
                    "event": "start",
                    "method": run.method,
                    "sites": list(crew.sites),
                    "rounds": run.training.rounds,
                }
            )
            federate(crew, engine, log)
            log({"event": "end", "rounds": run.training.rounds})
        finally:
            engine.close()
            log.close()


def done_rounds(run: Run, folder: Path) -> int:
    """Rounds that the server has finished."""
    return max(Store(folder / "server" / "store", run.digest()).versions(), default=0)


def differences(old: Run, new: Run) -> list[str]:
    """Where two configurations differ, as ``key: old -> new``."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, part in value.items()
        for key, leaf in _flat(part, f"{prefix}.{name}".lstrip(".")).items()
    }


def environment(run: Run) -> dict[str, Any]:
    """Versions and machine, for the record."""
    packages = ("polysite", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "scikit-image")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": run.device,
        "engine": run.engine.model_dump(),
        "run": run.digest(),
    }
