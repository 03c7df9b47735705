"""A run from configuration to report: sites → rounds → evaluation → report."""

import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from polysite import recipe
from polysite.cases import Progress, find_cases, prepare_cases, require_usable, split_cases
from polysite.config.base import settings_of
from polysite.config.run import Run, digest_of
from polysite.data.cache import PreparedCase
from polysite.data.datasets.reader import datasets_of
from polysite.data.split import save_splits
from polysite.errors import CheckpointError, ConfigError, DataError
from polysite.events import EventLog, Listener
from polysite.federation.crew import assemble, make_algorithm, make_plans, make_task
from polysite.federation.saver import saving
from polysite.federation.server import federate
from polysite.federation.share import describe, explain
from polysite.federation.store import Store
from polysite.federation.tensor_files import file_digest
from polysite.lock import locked
from polysite.registry import lookup
from polysite.seal import require_same_plan, require_same_run, run_splits, seal_models

Prepared = dict[str, dict[str, list[PreparedCase]]]


def plan(run: Run) -> dict[str, Any]:
    """What would leave each site; reads no data."""
    task = make_task(run)
    algorithm = make_algorithm(run, task)
    return describe(make_plans(run, task, algorithm))


def create(run: Run, folder: Path, progress: Progress | None = None) -> None:
    """Make a run folder: configuration, share plan, splits and environment. It appears whole or not at all."""
    if (folder / "config.yaml").exists():
        raise ConfigError(
            f"{folder}: holds a run already; continue it with --resume {folder} or choose another --out"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already and is no run; choose another --out")
    run = run.anchored()
    require_device(run.device)
    description = plan(run)
    if run.here:
        _require_cache(run.cache_folder())
    found = find_cases(run, progress)
    require_usable(run, found)
    splits = split_cases(run, found)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        save_splits(temporary / "splits.json", splits)
        record = {**environment(run), "splits": file_digest(temporary / "splits.json")}
        _write(temporary / "environment.json", json.dumps(record, indent=1))
        _write(temporary / "share_plan.txt", explain(description))
        _write(temporary / "share_plan.json", json.dumps(description, indent=1))
        _write(temporary / "config.yaml", recipe.dump(run))
        temporary.replace(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be made: {error.strerror}; check the folder and its space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_here(run: Run) -> None:
    """Refuse to train in one process what hospitals train together."""
    away = [name for name in run.sites if name not in run.here]
    if away:
        raise ConfigError(
            f"sites.{away[0]}.data: the scans are elsewhere, so this run goes across hospitals: `polysite serve` "
            "begins it at the server and `polysite join SITE.yaml` takes part at each hospital"
        )


def _require_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cache: {folder} cannot be made: {error.strerror}; choose another folder"
        ) from error


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def require_device(name: str) -> None:
    """Refuse a device that this machine does not have."""
    import torch

    kind, _, index = name.partition(":")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = (kind == "cuda" and int(index or 0) >= n_devices) or (
        kind == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ConfigError(
            f"device: {name!r} is not on this machine (torch sees {n_devices} CUDA devices); use --device cpu"
        )


def open_run(folder: Path) -> Run:
    """The configuration of a run folder.

    Raises
    ------
    CheckpointError
        If there is none, or what decides the models was edited after the run began.
    """
    path = folder / "config.yaml"
    if not path.exists():
        what = "it has no config.yaml" if folder.is_dir() else "there is no such folder"
        raise CheckpointError(f"{folder}: is no run folder: {what}; `polysite train --out` makes one")
    try:
        raw, node = recipe.read_yaml(path)
        run = recipe.build(raw, str(path), node).known_by(digest_of(raw))
    except ConfigError as error:
        raise CheckpointError(f"{error}\nrestore {path} from a backup") from error
    require_same_run(folder, run)
    return run


def prepared_cases(run: Run, folder: Path, progress: Progress | None = None) -> Prepared:
    """The prepared cases of a run folder by its splits."""
    splits = run_splits(folder)
    return prepare_cases(run, find_cases(run, progress), splits, progress)


def train(folder: Path, listeners: Sequence[Listener] = (), progress: Progress | None = None) -> None:
    """Run all rounds that a run folder still lacks."""
    require_here(open_run(folder))
    with locked(folder), saving() as saver:
        run = open_run(folder)
        require_device(run.device)
        crew = assemble(run, prepared_cases(run, folder, progress), folder, saver)
        require_same_plan(folder, describe(crew.plans))
        log = EventLog(folder / "events.jsonl", listeners)
        engine = lookup("engines", run.engine.name)(settings_of("engines", run.engine), crew)
        try:
            start = {"method": run.method, "sites": list(crew.plans), "rounds": run.training.rounds}
            log({"event": "start", **start})
            federate(crew, engine, log)
            seal_models(run, folder)
            log({"event": "end", "rounds": run.training.rounds})
        finally:
            engine.close()
            log.close()


def done_rounds(run: Run, folder: Path) -> int:
    """Rounds that the server has finished."""
    return max(Store(folder / "server" / "store", run.digest()).versions(), default=0)


def differences(old: Run, new: Run) -> list[str]:
    """Where two configurations differ, as ``key: old -> new``; label and cache may."""
    before, after = (
        _flat(run.anchored().model_dump(mode="json", exclude={"label", "cache"})) for run in (old, new)
    )
    lines = [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key, "absent") != after.get(key, "absent")
    ]
    if not lines and list(old.sites) != list(new.sites):
        lines = [f"order of the sites: {', '.join(old.sites)} -> {', '.join(new.sites)}"]
    return lines


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, part in value.items()
        for key, leaf in _flat(part, f"{prefix}.{name}".lstrip(".")).items()
    }


def environment(run: Run) -> dict[str, Any]:
    """Versions, machine and the terms of public data sets, for the record."""
    packages = ("polysite", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "scikit-image")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": run.device,
        "engine": run.engine.model_dump(),
        "run": run.digest(),
        "datasets": {
            name: {"title": dataset.title, "licence": dataset.licence, "citation": dataset.citation}
            for name, dataset in datasets_of(run).items()
        },
    }
