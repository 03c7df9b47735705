"""One small head and one small hospital, made once for all tests."""

from pathlib import Path

import numpy as np
import pytest

from polysite.phantom.anatomy import Grid, Head, Person, draw_head, draw_person
from polysite.phantom.consortium import write_hospital

GRID = Grid((60, 70, 52), (3.2, 3.2, 3.2), (0.0, -13.0, 14.0))


@pytest.fixture(scope="session")
def people() -> list[Person]:
    return [draw_person(np.random.default_rng(seed), lesions=True) for seed in range(3)]


@pytest.fixture(scope="session")
def heads(people: list[Person]) -> list[Head]:
    return [draw_head(person, GRID) for person in people]


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of the hospital with lesions."""
    out = tmp_path_factory.mktemp("bridge") / "bridge"
    return write_hospital(out, "bridge", n_subjects=2, seed=3, voxel_mm=5.0)
