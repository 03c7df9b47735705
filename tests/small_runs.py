"""Whole runs small enough for tests: heads of ellipsoids as BIDS, tiny networks, real files."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from heads import grid_affine, head
from polysite import recipe
from polysite.image import Image, write_image

SHAPE, SPACING = (16, 20, 8), (6.0, 6.0, 14.0)
TASKS = {"north": ["T1w->T2w", "T1w->FLAIR"], "south": ["T1w->T2w"], "west": ["T2w->FLAIR"]}


def write_site(folder: Path, gain: float, subjects: int = 2) -> None:
    """A BIDS folder of heads, each a little brighter than the one before."""
    affine = grid_affine(SHAPE, SPACING)
    for subject in range(1, subjects + 1):
        anat = folder / f"sub-{subject:02d}" / "anat"
        anat.mkdir(parents=True)
        for contrast in ("T1w", "T2w", "FLAIR"):
            volume = gain * (1 + subject / 50) * head(contrast, SHAPE, affine)
            write_image(Image(volume, affine, contrast, 1, 2), anat / f"{anat.parent.name}_{contrast}.nii.gz")


def small_raw(data: Path, **over: Any) -> dict[str, Any]:
    """The YAML of a run on the sites that lie in ``data`` (made if they are not there)."""
    for index, site in enumerate(TASKS):
        if not (data / site).exists():
            write_site(data / site, 1 + index)
    raw: dict[str, Any] = {
        "name": "small",
        "cache": str(data / "cache"),
        "contrasts": ["T1w", "T2w", "FLAIR"],
        "sites": {
            site: {"data": {"format": "bids", "path": str(data / site)}, "tasks": tasks}
            for site, tasks in TASKS.items()
        },
        "task": {"name": "synthesis", "image_size": 24, "discriminator_width": 4},
        "network": {"name": "pflsynth", "width": 4, "n_blocks": 2, "latent": 8, "mapper_depth": 2},
        "algorithm": {"name": "pflsynth"},
        "training": {"rounds": 3, "steps_per_round": 2, "batch_size": 2, "validation_slices": 4},
        "split": {"validation": 0.5, "test": 0.0},
        "prepare": {"registration": "never"},
        "engine": {"name": "here", "threads": 1},
    }
    return recipe.merge(raw, over)


def write_run(path: Path, raw: dict[str, Any]) -> Path:
    """The YAML as a file."""
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def digests(folder: Path, pattern: str = "model.safetensors") -> dict[str, str]:
    """SHA-256 of a run's files by their path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
    }


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """The installed command, as a user starts it, in the background."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("polysite")), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def polysite(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, run to its end."""
    process = start(*arguments, **environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
