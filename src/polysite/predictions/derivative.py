"""Folders of predictions as BIDS derivatives."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polysite import __version__
from polysite.config.run import Run
from polysite.data.case import Case
from polysite.evaluate.table import replace_text
from polysite.image import suffix_of

GENERATED_BY = {"Name": "Polysite", "Version": __version__}


def is_ours(path: Path) -> bool:
    """Whether a JSON file says that Polysite made what it describes."""
    try:
        made_by = json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"]
        return any(entry["Name"] == GENERATED_BY["Name"] for entry in made_by)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def absolute(path: Path) -> Path:
    """A path from the root; links stay links."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def describe_derivative(folder: Path, title: str, run: Run, raw: Path | None) -> None:
    """Write ``dataset_description.json`` of a folder of predictions.

    Parameters
    ----------
    title : str
        What the predictions are.
    raw : Path or None
        The data set that the sources are in; ``bids:raw:`` stands for it.
    """
    description = {
        "Name": f"{title}, run {run.name}, method {run.method}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [GENERATED_BY],
        **({"DatasetLinks": {"raw": absolute(raw).as_uri()}} if raw else {}),
    }
    _write_json(folder / "dataset_description.json", description)


def place_of(folder: Path, case: Case, name: str) -> Path:
    """Where a prediction of a case lies; ``name`` is all that follows the subject and session."""
    parts = [f"sub-{case.subject}", *([f"ses-{case.session}"] if case.session else [])]
    return folder.joinpath(*parts, "anat", f"{'_'.join([*parts, name])}.nii.gz")


def source_uri(case: Case, contrast: str) -> str:
    """Where a source lies: a BIDS URI below the data set's folder, else a plain one."""
    path = absolute(case.images[contrast])
    if case.root is not None and path.is_relative_to(absolute(case.root)):
        return f"bids:raw:{path.relative_to(absolute(case.root)).as_posix()}"
    return path.as_uri()


def provenance(run: Run, site: str) -> dict[str, Any]:
    """What made a volume, in our own keys."""
    return {"Site": site, "Method": run.method, "Run": run.digest()}


def sidecar_of(image: Path) -> Path:
    """The JSON beside an image."""
    return image.with_name(image.name.removesuffix(suffix_of(image) or "") + ".json")


def write_sidecar(image: Path, content: Mapping[str, Any]) -> None:
    """Write the JSON beside an image."""
    _write_json(sidecar_of(image), content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content, indent=1) + "\n")
