"""Real hearts: short-axis cine of 20 persons of five groups, each group a site."""

import os
from pathlib import Path

import numpy as np
import pytest

from polysite.config.prepare import Prepare
from polysite.config.site import Site
from polysite.config.sources import TableData
from polysite.data.check import check_site
from polysite.data.prepare import prepare_case
from polysite.data.table import read_cases
from polysite.image import read_image

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("POLYSITE_REAL_DATA" not in os.environ, reason="POLYSITE_REAL_DATA is not set"),
]
LABELS = {"RV": 1, "MYO": 2, "LV": 3}


def group(name: str) -> tuple[Site, list]:
    data = TableData(
        format="table",
        path=Path(os.environ["POLYSITE_REAL_DATA"]) / "cardiac_acdc" / "cases.csv",
        where={"site": name},
        session="case",
        label_images={"cine": "label"},
    )
    return Site(data=data, labels=LABELS), read_cases(name, data, ("cine",))


@pytest.mark.parametrize("name", ["DCM", "HCM", "MINF", "NOR", "RV"])
def test_the_check_finds_no_error(name):
    site, cases = group(name)
    assert (len(cases), len({case.subject for case in cases})) == (8, 4)
    assert [found for found in check_site(name, cases, site, Prepare()) if found.level != "note"] == []


def test_a_heart_is_prepared_and_its_labels_come_back(tmp_path):
    _, cases = group("DCM")
    (part,) = cases[0].parts()
    case = prepare_case(part, Prepare(), tmp_path)
    assert case.key == "sub-patient001_ses-patient001frame01_cine"
    np.testing.assert_allclose(case.grid.spacing_mm, (1.25, 1.25, 10))
    volume, labels = np.asarray(case.volume("cine"), np.float32), case.labels()
    assert (volume.mean(), volume.std()) == pytest.approx((0, 1), abs=0.1)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert volume[labels == 3].mean() > volume[labels == 2].mean() + 1, "blood is brighter than muscle"
    shares = [case.to_native((labels == value).astype(np.float32), outside=0).array for value in range(4)]
    back, truth = np.argmax(shares, axis=0), read_image(part.labels["cine"]).array
    for value in LABELS.values():
        both = (
            2 * ((back == value) & (truth == value)).sum() / ((back == value).sum() + (truth == value).sum())
        )
        assert both > 0.97
