"""Scores for tests that speak of only some of their columns."""

from typing import Any

from polysite.evaluate.kinds import KINDS
from polysite.evaluate.table import Score

IDENTITY: dict[str, Any] = {
    "method": "local",
    "seed": 1,
    "site": "north",
    "subject": "sub-01",
    "session": None,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "synthesis": {
        "task": "T1w->T2w",
        "psnr_db": 20.0,
        "ssim": 0.8,
        "nrmse": 0.3,
        "n_voxels": 1000,
        "data_range": 1.0,
        "mask": "foreground",
    },
    "segmentation": {
        "task": "LV",
        "image": "ED",
        "dice": 0.9,
        "hd95_mm": 4.0,
        "assd_mm": 1.0,
        "volume_error_ml": 5.0,
        "ef_error_percent": None,
        "volume_ml": 105.0,
        "true_volume_ml": 100.0,
        "ef_percent": None,
        "true_ef_percent": None,
    },
}


def make_score(*, kind: str = "synthesis", **values: Any) -> Score:
    """A score with defaults for all that a test does not speak of; metrics and details by their names."""
    given = IDENTITY | DEFAULTS[kind] | values
    metrics = {metric.name: given.pop(metric.name) for metric in KINDS[kind].metrics}
    details = {column.name: given.pop(column.name) for column in KINDS[kind].details}
    return Score(kind=kind, metrics=metrics, details=details, **given)
