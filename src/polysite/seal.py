"""What says that a run folder is as Polysite wrote it: digests of what a run began with and of what it gave.

``environment.json`` holds the digests of the configuration and the splits, ``models.json`` those of the sites' models.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polysite.config.run import Run
from polysite.data.split import Splits, load_splits
from polysite.errors import CheckpointError
from polysite.evaluate.table import replace_text
from polysite.federation.tensor_files import file_digest


def _recorded(folder: Path) -> dict[str, Any]:
    """``environment.json``: digests of the configuration and splits that the run began with."""
    path = folder / "environment.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}; restore it from a backup"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is cut short or altered; restore it from a backup") from error
    return record


def require_same_run(folder: Path, run: Run) -> None:
    """Refuse a configuration that would give other models than the one that the run began with."""
    if _recorded(folder).get("run", run.digest()) != run.digest():
        raise CheckpointError(
            f"{folder / 'config.yaml'}: was edited after the run began; restore it, or begin a new run "
            "with another --out"
        )


def run_splits(folder: Path) -> Splits:
    """The splits that a run began with."""
    path = folder / "splits.json"
    splits = load_splits(path)
    if _recorded(folder).get("splits", digest := file_digest(path)) != digest:
        raise CheckpointError(f"{path}: was edited after the run began; restore it, or begin a new run")
    return splits


def require_same_plan(folder: Path, now: Mapping[str, Any]) -> None:
    """Refuse to go on where other tensors would leave a site than the folder's share plan says."""
    path = folder / "share_plan.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        same = all(saved[part]["names"] == now[part]["names"] for part in ("shared", "private"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}; restore it from a backup"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is cut short or altered; restore it from a backup") from error
    if not same:
        raise CheckpointError(
            f"{path}: does not say what leaves a site now: it was edited, or Polysite has changed; "
            "restore it, or begin a new run with another --out"
        )


def seal_models(run: Run, folder: Path) -> None:
    """Write ``models.json``: the SHA-256 of every site's model, last, so that it says the training has ended."""
    write_seal(folder, {name: file_digest(model_path(folder, name)) for name in run.here})


def write_seal(folder: Path, digests: Mapping[str, str]) -> None:
    """Write ``models.json`` from the SHA-256 of the sites' models."""
    replace_text(folder / "models.json", json.dumps(dict(digests), indent=1))


def model_path(folder: Path, site: str) -> Path:
    """A site's model after the last round."""
    return folder / "sites" / site / "model.safetensors"


def trained_model(folder: Path, site: str) -> Path:
    """The same, verified.

    Raises
    ------
    CheckpointError
        If the training has not ended, or the file is not the one that it wrote.
    """
    path, seal = model_path(folder, site), folder / "models.json"
    go_on = f"polysite train --resume {folder}"
    if not seal.exists() or not path.exists():
        missing = path if seal.exists() else seal
        raise CheckpointError(f"{missing}: is missing: the training has not ended; go on with: {go_on}")
    try:
        expected = json.loads(seal.read_text(encoding="utf-8"))[site]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{seal}: is cut short or altered; write it again with: {go_on}") from error
    if file_digest(path) != expected:
        raise CheckpointError(
            f"{path}: is cut short or altered (its SHA-256 is not the one in {seal.name}); "
            f"write it again with: {go_on}"
        )
    return path
