"""Scores for tests that speak of only some of their columns."""

from typing import Any

from polysite.evaluate.table import Score


def make_score(**values: Any) -> Score:
    """A score with defaults for all that a test does not speak of."""
    defaults: dict[str, Any] = {
        "method": "local",
        "seed": 1,
        "site": "north",
        "subject": "sub-01",
        "session": None,
        "task": "T1w->T2w",
        "psnr_db": 20.0,
        "ssim": 0.8,
        "nrmse": 0.3,
        "n_voxels": 1000,
        "data_range": 1.0,
        "mask": "foreground",
    }
    return Score(**(defaults | values))
