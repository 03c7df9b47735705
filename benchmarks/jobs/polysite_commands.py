"""Polysite: the commands that a user types, for a run whose task is the job.

`here` and `processes` are ``polysite train`` with that engine and its defaults (`here`: a site at a time with all
cores; `processes`: as many workers as cores, one thread each, which take the sites in turn). `across` is
``polysite serve`` and, for every site, ``polysite join --once`` with a kit of ``polysite provision``: mutual TLS on
127.0.0.1, one thread a site. Validation is off, as there is nothing to validate; everything else is as in any run:
every site's and the server's state of every round is on the disk, and across hospitals every payload in both logs.
Each site has one subject with two images of 8×8×8 voxels, so that data are read, too.
"""

import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from jobs.job import HERE, Case, Command, Engine

ENTRY_POINTS = "[polysite.tasks]\nadd_one = jobs.polysite_task:AddOne\n"
CONTRASTS = ("T1w", "T2w")


def train(engine: str) -> Callable[[Case], list[Command]]:
    """`polysite train` with an engine."""

    def prepare(case: Case) -> list[Command]:
        environment = _plug(case)
        run = _write(case.folder / "run.yaml", {**_run(case), "engine": {"name": engine}})
        return [Command("all", _polysite(case, "train", run, "--out", case.folder / "run"), environment)]

    return prepare


def across(case: Case) -> list[Command]:
    """`polysite serve` and a `polysite join` for each site."""
    environment = _plug(case)
    consortium = {"name": "trial", "server": "localhost", "port": free_port(), "hospitals": case.sites}
    file = _write(case.folder / "consortium.yaml", consortium)
    kits = case.folder / "kits"
    subprocess.run(_polysite(case, "provision", file, kits), check=True, capture_output=True, env=environment)
    raw = _run(case)
    data = {name: site["data"] for name, site in raw["sites"].items()}
    for site in raw["sites"].values():
        site["data"] = {"format": "elsewhere"}
    run = _write(case.folder / "run.yaml", raw)
    where = ("--kit", kits / "server", "--out", case.folder / "run", "--listen", "127.0.0.1")
    commands = [Command("server", _polysite(case, "serve", run, *where), environment)]
    for name in case.sites:
        site = {
            "site": name,
            "data": data[name],
            "cache": raw["cache"],
            "store": str(case.folder / name),
            "threads": 1,
            "kit": str(kits / "hospitals" / name),
            "policy": {"runs": [raw["name"]], "leaves": ["*"], "min_subjects": 1},
        }
        file = _write(case.folder / f"{name}.yaml", site)
        commands.append(Command(name, _polysite(case, "join", file, "--once"), environment))
    return commands


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _polysite(case: Case, *arguments: str | Path) -> list[str]:
    """The command, also where only the source is there."""
    return [case.python, "-c", "from polysite.cli import main; main()", *map(str, arguments)]


def _write(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
    return path


def _run(case: Case) -> dict[str, Any]:
    """The run's YAML."""
    bids = {name: _write_subject(case.folder / "bids" / name) for name in case.sites}
    return {
        "name": "add-one",
        "contrasts": list(CONTRASTS),
        "cache": str(case.folder / "cache"),
        "sites": {
            name: {"data": {"format": "bids", "path": str(bids[name])}, "tasks": ["T1w->T2w"]}
            for name in case.sites
        },
        "task": {"name": "add_one", "n_values": case.n_values, "notes": str(case.notes)},
        "algorithm": {"name": "fedavg"},
        "training": {"rounds": case.rounds, "validate_every": 0},
        "split": {"validation": 0.0, "test": 0.0},
        "prepare": {"registration": "never"},
    }


def _write_subject(folder: Path) -> Path:
    """A BIDS folder of one subject, who is called as the site."""
    import nibabel
    import numpy as np

    subject = f"sub-{folder.name.replace('-', '')}"
    anat = folder / subject / "anat"
    anat.mkdir(parents=True)
    values = np.random.default_rng(0).uniform(1, 1000, (8, 8, 8)).astype(np.float32)
    for contrast in CONTRASTS:
        nibabel.Nifti1Image(values, np.eye(4)).to_filename(anat / f"{subject}_{contrast}.nii.gz")
    return folder


def _plug(case: Case) -> dict[str, str]:
    """The environment in which Polysite finds the task by its entry point, as it finds any installed package's."""
    folder = case.folder / "plug"
    about = folder / "polysite_benchmark-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: polysite-benchmark\nVersion: 1\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return {"PYTHONPATH": f"{folder}:{HERE.parent}:{HERE.parent.parent / 'src'}"}


ENGINES = {
    "here": Engine("Polysite, `here`", "polysite", "pip install .", train("here")),
    "processes": Engine("Polysite, `processes`", "polysite", "pip install .", train("processes")),
    "across": Engine("Polysite across hospitals, mutual TLS", "nvflare", "pip install '.[nvflare]'", across),
}
