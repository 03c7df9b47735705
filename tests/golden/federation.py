"""Two small federations of three rounds whose numbers are kept in ``federation.json``.

Regenerate, only after a change that is meant to alter what a run computes:

    OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/golden/federation.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from fakes import TINY, MemoryCase
from polysite import recipe, registry
from polysite.config.run import Run
from polysite.engines.here import Here
from polysite.federation.crew import assemble
from polysite.federation.saver import saving
from polysite.federation.server import federate
from polysite.federation.tensor_files import read_tensors
from toy import toy_raw

FILE = Path(__file__).with_suffix(".json")
COMMAND = "OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/golden/federation.py"
TASKS = {"north": ["T1w->T2w", "T1w->FLAIR"], "south": ["T1w->T2w"], "west": ["T2w->FLAIR"]}


def toy() -> dict[str, Any]:
    """Three unequal sites that pull a vector to their centres, federated averaging with a private head."""
    registry.TABLES["tasks"].setdefault("toy", "toy:Toy")
    run = recipe.build(toy_raw(3, task={"noisy": True}))
    return federation(run, {name: {"train": [0], "validation": [0]} for name in run.sites})


def synthesis() -> dict[str, Any]:
    """pFLSynth with tiny networks on smooth blobs: adversarial training, dropout, batch norm, three task sets."""
    raw = {
        "name": "golden",
        "contrasts": ["T1w", "T2w", "FLAIR"],
        "sites": {
            site: {"data": {"format": "bids", "path": "unused"}, "tasks": tasks}
            for site, tasks in TASKS.items()
        },
        "task": {"name": "synthesis", "image_size": 24, "discriminator_width": 4},
        "network": {"name": TINY.name, **TINY.settings},
        "algorithm": {"name": "pflsynth"},
        "training": {"rounds": 3, "steps_per_round": 2, "batch_size": 2, "learning_rate": 1e-3},
    }
    cases = {
        site: {
            split: [MemoryCase(site=site, seed=10 * k + j)] for j, split in enumerate(("train", "validation"))
        }
        for k, site in enumerate(TASKS)
    }
    return federation(recipe.build(raw), cases)


def federation(run: Run, cases: Any) -> dict[str, Any]:
    """Losses of every visit, and the size of every group of final tensors."""
    visits: list[dict[str, Any]] = []

    def emit(event: dict[str, Any]) -> None:
        if event["event"] == "site":
            visits.append({key: event[key] for key in ("round", "site", "losses", "validation")})

    with tempfile.TemporaryDirectory() as folder, saving() as saver:
        crew = assemble(run, cases, Path(folder), saver)
        federate(crew, Here(Here.Settings(threads=1), crew), emit)
        sizes = {
            holder: _sizes(read_tensors(Path(folder) / holder / "model.safetensors"))
            for holder in ("server", *(f"sites/{name}" for name in run.sites))
        }
    return {"visits": visits, "root_mean_square": sizes}


def _sizes(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Root mean square of the tensors by the first two parts of their names."""
    groups: dict[str, list[torch.Tensor]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(".".join(name.split(".")[:2]), []).append(tensor.double().flatten())
    return {name: float(torch.cat(parts).square().mean().sqrt()) for name, parts in sorted(groups.items())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden = {
        "command": COMMAND,
        "relative_tolerance": {"toy": 1e-5, "synthesis": 2e-4},
        "toy": toy(),
        "synthesis": synthesis(),
    }
    FILE.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
