"""Run folders written by hand, in the documented form: no training, known scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from polysite.evaluate.table import Score, write_scores
from polysite.predictions.outlines import write_outlines
from polysite.predictions.overlap import with_ejection_fraction

SITES: dict[str, tuple[str, ...]] = {
    "guys": ("T1w->T2w", "T2w->PDw"),
    "midas": ("T1w->T2w", "T2w->T1w"),
    "oasis": ("T2w->FLAIR",),
}
GAINS_DB = {"local": 0.0, "fedavg": -0.6, "pflsynth": 1.1, "central": 1.3}
SHARED = ["res8", "res9", "up1", "up2", "out", "mapper"]
PRIVATE = ["enc1", "enc2", "enc3", "res1", "res2", "personalization"]


def write_run(
    folder: Path,
    *,
    algorithm: str = "pflsynth",
    preset: str | None = None,
    seed: int = 1,
    sites: Mapping[str, tuple[str, ...]] = SITES,
    n_test: int = 8,
    n_rounds: int = 6,
    gain_db: float | None = None,
) -> Path:
    """A complete run folder; PSNR is 24 dB plus the subject's level, the method's gain and a little noise."""
    folder.mkdir(parents=True)
    method = f"{algorithm}-{preset}" if preset else algorithm
    gain = GAINS_DB.get(algorithm, 0.5) if gain_db is None else gain_db
    rng = np.random.default_rng([seed, *method.encode()])
    config = {
        "name": "study",
        "seed": seed,
        "contrasts": ["T1w", "T2w", "PDw", "FLAIR"],
        "sites": {
            name: {"data": {"format": "phantom", "hospital": name}, "tasks": list(tasks)}
            for name, tasks in sites.items()
        },
        "network": {"name": "pflsynth", "width": 16, "n_blocks": 3},
        "algorithm": {"name": algorithm} | ({"preset": preset} if preset else {}),
        "training": {"rounds": n_rounds, "batch_size": 4},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    write_json(folder / "environment.json", {"polysite": "0.1.0", "python": "3.11.9", "cpu": {"threads": 2}})
    write_json(
        folder / "splits.json",
        {
            name: {
                part: [f"sub-{k:02d}" for k in range(n)]
                for part, n in zip(PARTS, (16, 2, n_test), strict=True)
            }
            for name in sites
        },
    )
    write_json(folder / "share_plan.json", _plan(algorithm, list(sites)))
    _write_events(folder / "events.jsonl", rng, list(sites), method, n_rounds, gain)
    scores = []
    for site, tasks in sites.items():
        for task in tasks:
            for k in range(n_test):
                # the subject's level is the same for every method, so that pairing matters
                level = np.random.default_rng([k, *site.encode()]).normal(24, 1.5)
                psnr = float(level + gain + 0.25 * rng.normal())
                scores.append(
                    Score(
                        kind="synthesis",
                        method=method,
                        seed=seed,
                        site=site,
                        subject=f"sub-{k:02d}",
                        session=None,
                        task=task,
                        metrics={
                            "psnr_db": psnr,
                            "ssim": float(np.clip(0.8 + 0.02 * (psnr - 24), -1, 1)),
                            "nrmse": float(0.2 * 10 ** (-(psnr - 24) / 20)),
                        },
                        details={"n_voxels": 120_000, "data_range": 1.0, "mask": "foreground"},
                    )
                )
            _write_example(folder, rng, site, task, noise=0.05 * 10 ** (-gain / 10))
    write_scores(folder / "scores.csv", scores)
    return folder


PARTS = ("train", "validation", "test")

LABELS = {
    "ivy": {"LV": 1, "MYO": 2, "RV": 3},
    "nave": {"LV": 1, "MYO": 2, "infarct": 3, "no-reflow": 4},
}
IMAGES = {"ivy": ("ED", "ES"), "nave": ("LGE",)}
DICE_GAINS = {"local": 0.0, "fedavg": 0.01, "fedcrld": 0.03}


def write_segmentation_run(
    folder: Path,
    *,
    algorithm: str = "fedcrld",
    preset: str | None = None,
    seed: int = 1,
    labels: Mapping[str, Mapping[str, int]] = LABELS,
    n_test: int = 8,
    n_rounds: int = 6,
) -> Path:
    """A complete run folder of cardiac segmentation; every third subject has no no-reflow, and nobody finds some."""
    folder.mkdir(parents=True)
    method = f"{algorithm}-{preset}" if preset else algorithm
    gain = DICE_GAINS[algorithm]
    rng = np.random.default_rng([seed, *method.encode()])
    config = {
        "name": "study",
        "seed": seed,
        "contrasts": ["ED", "ES", "LGE"],
        "sites": {
            name: {
                "data": {"format": "phantom", "kind": "cardiac", "hospital": name},
                "labels": dict(classes),
            }
            for name, classes in labels.items()
        },
        "task": {"name": "segmentation"},
        "network": {"name": "fedcrld", "width": 8},
        "algorithm": {"name": algorithm} | ({"preset": preset} if preset else {}),
        "training": {"rounds": n_rounds},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    write_json(folder / "environment.json", {"polysite": "0.1.0", "python": "3.11.9"})
    write_json(
        folder / "splits.json",
        {name: {"train": ["a", "b"], "validation": [], "test": ["c"] * n_test} for name in labels},
    )
    write_json(folder / "share_plan.json", _plan(algorithm, list(labels)))
    _write_events(folder / "events.jsonl", rng, list(labels), method, n_rounds, gain)
    scores = []
    for site, classes in labels.items():
        for image in IMAGES[site]:
            for k in range(n_test):
                for name in classes:
                    level = np.random.default_rng([k, *site.encode(), *name.encode()]).normal(0.84, 0.04)
                    absent = name == "no-reflow" and k % 3 == 0
                    dice = 1.0 if absent else float(np.clip(level + gain + 0.01 * rng.normal(), 0, 1))
                    volume = 0.0 if absent else 120.0 * (0.45 if image == "ES" else 1) + 5 * k
                    predicted = volume * (1 + 0.3 * (1 - dice))
                    scores.append(
                        Score(
                            kind="segmentation",
                            method=method,
                            seed=seed,
                            site=site,
                            subject=f"sub-{k:02d}",
                            session=None,
                            image=image,
                            task=name,
                            metrics={
                                "dice": dice,
                                "hd95_mm": None if absent else 40 * (1 - dice),
                                "assd_mm": None if absent else 10 * (1 - dice),
                                "volume_error_ml": abs(predicted - volume),
                                "ef_error_percent": None,
                            },
                            details={
                                "volume_ml": predicted,
                                "true_volume_ml": volume,
                                "ef_percent": None,
                                "true_ef_percent": None,
                            },
                        )
                    )
            _write_outlines(folder / "predictions" / site / "examples" / f"{image}.npz", classes, gain)
    write_scores(folder / "scores.csv", with_ejection_fraction(scores))
    return folder


def heart(size: float = 1.0, shape: tuple[int, int, int] = (120, 110, 10)) -> NDArray[np.int64]:
    """Labels of a simple short-axis stack (x, y, z), apex first: cavity 1, wall 2, right ventricle 3, a scar 4."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    reach = size * np.clip(1 - ((z - 8) / 8) ** 2, 0, None) ** 0.5 * ((z > 0) & (z < 9))
    radius = np.hypot(x - 55, y - 55)
    labels = np.zeros(shape, int)
    labels[np.hypot((x - 88) / 1.2, y - 55) < 20 * reach] = 3
    labels[radius < 27 * reach] = 2
    labels[radius < 17 * reach] = 1
    labels[(radius < 26 * reach) & (radius > 19 * reach) & (y < 45) & (x > 45)] = 4
    return labels


def _write_outlines(path: Path, classes: Mapping[str, int], gain: float) -> None:
    names = {0: "background"} | {value: name for name, value in classes.items()}
    truth, predicted = heart(), heart(0.85 + 4 * gain)
    image = np.select([truth == 1, truth == 2, truth == 3, truth == 4], [400.0, 120.0, 380.0, 500.0], 180.0)
    image += np.random.default_rng(0).normal(0, 25, image.shape)
    kept = [np.where(np.isin(labels, list(names)), labels, 2) for labels in (truth, predicted)]
    write_outlines(
        path,
        image=image.astype(np.float32),
        truth=kept[0],
        predicted=kept[1],
        affine=np.diag([1.25, 1.25, 10.0, 1.0]),
        names=names,
        subject="sub-00",
    )


def write_json(path: Path, content: object) -> None:
    """A JSON file as the run writes it."""
    path.write_text(json.dumps(content, indent=2))


def _plan(algorithm: str, sites: list[str]) -> dict[str, Any]:
    travels = {"local": [], "central": [], "fedavg": [*PRIVATE, *SHARED]}.get(algorithm, SHARED)
    names = [f"{module}.{part}" for module in (*PRIVATE, *SHARED) for part in ("weight", "bias")]
    shared = [name for name in names if name.partition(".")[0] in travels]
    private = [name for name in names if name not in shared]
    private += [f"discriminator.T1w-T2w.model.{k}.weight" for k in range(5)]
    values = 35_000 * len(shared)
    return {
        "networks": {
            "generator": {
                "parameters": 35_000 * len(names),
                "shared": {"tensors": len(shared), "values": values, "bytes": 4 * values},
                "private": {
                    "tensors": len(names) - len(shared),
                    "values": 35_000 * (len(names) - len(shared)),
                },
            },
            "discriminator.T1w-T2w": {
                "parameters": 172_000,
                "shared": {"tensors": 0, "values": 0, "bytes": 0},
                "private": {"tensors": 5, "values": 172_000},
            },
        },
        "shared": {"names": shared, "values": values, "bytes_per_round": 4 * values},
        "private": {"names": private},
        "sites": {site: {"bytes_up": 4 * values, "bytes_down": 4 * values} for site in sites},
    }


def _write_events(
    path: Path, rng: np.random.Generator, sites: list[str], method: str, n_rounds: int, gain: float
) -> None:
    events: list[dict[str, Any]] = [
        {
            "event": "start",
            "time": "2025-03-01T09:00:00",
            "method": method,
            "sites": sites,
            "rounds": n_rounds,
        }
    ]
    for round_ in range(n_rounds):
        for site in sites:
            l1 = 0.08 + 0.2 * np.exp(-round_ / 3) + 0.005 * rng.normal() - 0.01 * gain
            events.append(
                {
                    "event": "site",
                    "time": "2025-03-01T09:01:00",
                    "round": round_,
                    "site": site,
                    "losses": {
                        "generator": 100 * l1 + 0.5,
                        "adversarial": 0.5 + 0.05 * rng.normal(),
                        "l1": l1,
                        "discriminator": 0.25 + 0.03 * rng.normal(),
                    },
                    "validation": {"l1": l1 + 0.01, "psnr_db": -20 * np.log10(l1) + 2},
                    "n_samples": 160,
                    "n_steps": 40,
                    "seconds": 3.1,
                    "bytes_in": 1_000_000,
                    "bytes_out": 1_000_000,
                }
            )
        events.append({"event": "round", "time": "2025-03-01T09:02:00", "round": round_, "seconds": 9.0})
    events.append({"event": "end", "time": "2025-03-01T10:00:00", "rounds": n_rounds})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def head(n_x: int = 96, n_y: int = 112) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A simple axial head (x, y) in [0, 1] with a bright spot in the patient's left front, and its mask."""
    x, y = np.meshgrid(np.linspace(-1.2, 1.2, n_x), np.linspace(-1.2, 1.2, n_y), indexing="ij")
    radius = np.hypot(x / 0.85, y)
    image = np.where(radius < 1, 0.35, 0.0) + np.where(radius < 0.86, 0.25, 0.0)
    image += np.where((radius < 0.8) & (np.sin(9 * x) * np.cos(7 * y) > 0.2), 0.12, 0.0)
    image -= np.where(np.hypot((abs(x) - 0.16) / 0.5, y) < 0.25, 0.45, 0.0)
    image += np.where(np.hypot(x + 0.4, y - 0.45) < 0.1, 0.3, 0.0)
    return np.clip(image, 0, 1), radius < 1


def _write_example(folder: Path, rng: np.random.Generator, site: str, task: str, noise: float) -> None:
    image, mask = head()
    source, target = image, np.where(mask, 0.9 - 0.8 * image, 0)
    examples = folder / "predictions" / site / "examples"
    examples.mkdir(parents=True, exist_ok=True)
    np.savez(
        examples / f"{task.replace('->', '-')}.npz",
        source=source.astype(np.float32),
        synthetic=np.clip(target + mask * rng.normal(0, noise, target.shape), 0, 1).astype(np.float32),
        target=target.astype(np.float32),
        mask=mask,
        subject=np.array("sub-00"),
        slice=np.array(40),
    )
