"""Scores with known differences."""

from collections.abc import Callable

import pytest

from polysite.evaluate.table import Score


@pytest.fixture
def make_score() -> Callable[..., Score]:
    """A score with defaults for all that a test does not speak of."""

    def make(**values: object) -> Score:
        defaults = {
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

    return make
