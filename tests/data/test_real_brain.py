"""Real scans: co-registered brains, and heads as scanned with another grid per contrast."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from polysite.config.prepare import Preparation, Prepare
from polysite.config.site import Site
from polysite.config.sources import BidsData
from polysite.data.bids import read_cases
from polysite.data.check import check_site
from polysite.data.prepare import prepare_case
from polysite.data.single import oriented

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("POLYSITE_REAL_DATA" not in os.environ, reason="POLYSITE_REAL_DATA is not set"),
]
CONTRASTS = ("T1w", "T2w", "FLAIR")


def site(name: str) -> list:
    root = Path(os.environ["POLYSITE_REAL_DATA"]) / "brain_bids"
    return read_cases(name, BidsData(path=root, where={"site": name}), CONTRASTS)


@pytest.mark.parametrize("name", ["ljubljana_3t", "ljubljana_2d"])
def test_the_check_finds_no_error(name):
    cases = site(name)
    wanted = Site(data={"format": "bids", "path": "."}, tasks=("T1w->T2w", "T2w->FLAIR"))
    found = check_site(name, cases, wanted, Prepare())
    assert len(cases) == 2
    assert {finding.level for finding in found} <= {"warning", "note"}
    assert ("prepare will register it" in "".join(one.message for one in found)) == (name == "ljubljana_2d")


def test_a_brain_goes_through_and_comes_back_in_place(tmp_path):
    case = site("ljubljana_3t")[0]
    prepared = prepare_case(case, Prepare(), tmp_path)
    steps = prepared.record["steps"]
    assert all(step["mask"]["kind"] == "brain" and step["registration"] is None for step in steps.values())
    assert all(step["negative"]["clipped"] for step in steps.values())
    image, stored = prepared.to_native(prepared.volume("T2w")), nibabel.load(case.images["T1w"])
    assert image.shape == stored.shape
    np.testing.assert_array_equal(image.affine, stored.affine)


@pytest.mark.slow
def test_heads_as_scanned_are_registered_to_the_millimetre(tmp_path):
    case = site("ljubljana_2d")[1]
    steps = prepare_case(case, Prepare(reference="FLAIR"), tmp_path).record["steps"]
    text = next(case.root.glob(f"derivatives/registration/{case.key}/*to-T1w_itk.txt")).read_text()
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    values = np.array(fields["Parameters"].split(), dtype=float)
    centre = np.array(fields["FixedParameters"].split(), dtype=float)
    lps = np.diag([-1.0, -1.0, 1.0])
    there = lps @ (centre + values[9:])  # the reference's centre goes here; mm, RAS+
    found = np.asarray(steps["T1w"]["registration"]["transform"])
    here = found[:3, :3] @ (lps @ centre) + found[:3, 3]
    assert np.linalg.norm(lps @ centre - there) > 4  # what the headers are off by
    assert np.linalg.norm(here - there) < 1


@pytest.mark.slow
def test_the_brain_found_in_a_head_has_the_size_of_one_in_every_contrast():
    for case in site("ljubljana_2d"):
        volumes = {
            contrast: oriented(case.image(contrast), Preparation(mask="brain")).record["mask"]["ml"]
            for contrast in CONTRASTS
        }
        assert all(1200 < volume < 1700 for volume in volumes.values()), volumes
        assert max(volumes.values()) < 1.15 * min(volumes.values())


@pytest.mark.slow
def test_n4_makes_white_matter_of_a_scanned_head_more_even_and_keeps_its_brightness():
    image = site("ljubljana_2d")[0].image("T1w")
    plain, corrected = (oriented(image, Preparation(mask="brain", bias=bias)) for bias in ("none", "n4"))
    bright = plain.mask & (plain.array > np.percentile(plain.array[plain.mask], 60))
    before, after = (one.array[bright].std() / one.array[bright].mean() for one in (plain, corrected))
    assert after < before
    assert corrected.array[bright].mean() == pytest.approx(plain.array[bright].mean(), rel=0.1)
