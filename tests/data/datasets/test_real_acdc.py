"""Real hearts as ``format: acdc``: the same 40 images as a table names, two to a visit."""

import os
from pathlib import Path

import numpy as np
import pytest

from layouts import cases_of
from polysite.config.sources import TableData
from polysite.data import table

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("POLYSITE_REAL_DATA" not in os.environ, reason="POLYSITE_REAL_DATA is not set"),
]


def test_the_same_images_are_found_as_by_a_table():
    root = Path(os.environ["POLYSITE_REAL_DATA"]) / "cardiac_acdc"
    data = TableData(path=root / "cases.csv", format="table", session="case", label_images={"cine": "label"})
    wanted = {case.images["cine"]: case.labels["cine"] for case in table.read_cases("north", data, ("cine",))}
    cases = cases_of("acdc", root, "ED", "ES")
    found = {path: case.labels[name] for case in cases for name, path in case.images.items()}
    assert (len(cases), found) == (20, wanted)


def test_the_ventricle_is_smaller_at_end_systole():
    """Label 3 is the left ventricle, and ED comes before ES."""
    for case in cases_of("acdc", Path(os.environ["POLYSITE_REAL_DATA"]) / "cardiac_acdc", "ED", "ES"):
        ed, es = (np.count_nonzero(case.label_image(name).array == 3) for name in ("ED", "ES"))
        assert ed > es > 0, case.key
