"""White-stripe normalisation: closed forms on histograms, and a phantom's white matter."""

import numpy as np
import pytest

from polysite import recipe
from polysite.config.prepare import Preparation
from polysite.data.normalise import scale_of
from polysite.data.single import oriented
from polysite.data.white_stripe import HALF_WIDTH, peak_for, peaks_of, stripe_of
from polysite.errors import ConfigError, DataError
from polysite.image import Image
from polysite.phantom.examination import examine
from polysite.phantom.hospital import hospital_named
from polysite.phantom.tissue import TISSUES

MEANS, DEVIATION, SHARES = (300.0, 500.0, 800.0), 30.0, (0.2, 0.5, 0.3)
"""Three tissues as a T1w volume has them: fluid, grey and white matter."""


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(4)
    parts = [
        rng.normal(mean, DEVIATION, int(share * 200_000)) for mean, share in zip(MEANS, SHARES, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)


def test_the_peaks_are_the_tissues(values):
    found = peaks_of(values, float(values.min()), float(values.max()))
    assert [place for place, _ in found] == pytest.approx(MEANS, abs=5)
    assert np.argsort([height for _, height in found]).tolist() == [0, 2, 1]


@pytest.mark.parametrize(("which", "mean"), [("first", 300), ("largest", 500), ("last", 800)])
def test_the_peak_of_choice_lands_at_0_and_its_stripe_has_a_deviation_of_1(values, which, mean):
    scale = scale_of(values, np.ones(values.shape, bool), (0, 100), "white-stripe", which)
    peak, deviation = stripe_of(values, float(values.min()), float(values.max()), which)
    assert peak == pytest.approx(mean, abs=5)
    normalised = np.sort(scale.apply(values).astype(np.float64))
    place = np.searchsorted(normalised, 0) / values.size
    stripe = normalised[int((place - HALF_WIDTH) * values.size) : int((place + HALF_WIDTH) * values.size)]
    assert stripe.std() == pytest.approx(1, abs=0.01)
    tallest, _ = max(
        peaks_of(scale.apply(values), *map(float, (normalised[0], normalised[-1]))), key=lambda p: -abs(p[0])
    )
    assert tallest == pytest.approx(0, abs=5 / deviation)


@pytest.mark.parametrize("which", ["first", "largest", "last"])
@pytest.mark.parametrize(("gain", "offset"), [(7.5, 0), (0.01, 0), (3, 250)])
def test_a_linear_change_of_intensities_changes_nothing(values, which, gain, offset):
    everywhere = np.ones(values.shape, bool)
    plain, changed = (
        scale_of(volume, everywhere, (0, 99.5), "white-stripe", which).apply(volume)
        for volume in (values, np.float32(gain) * values + np.float32(offset))
    )
    # values at the edge of a bin may fall to either side by rounding
    np.testing.assert_allclose(plain, changed, atol=0.02 * np.abs(plain).max())


def test_one_tissue_s_deviation_is_the_stripe_s_closed_form():
    """Of a normal distribution the stripe holds the middle tenth, nearly uniform: width over the root of 12."""
    from scipy.stats import norm

    values = np.random.default_rng(0).normal(1000, 50, 400_000).astype(np.float32)
    peak, deviation = stripe_of(values, float(values.min()), float(values.max()), "last")
    assert peak == pytest.approx(1000, abs=6)
    width = 50 * (norm.ppf(0.5 + HALF_WIDTH) - norm.ppf(0.5 - HALF_WIDTH))
    assert deviation == pytest.approx(width / np.sqrt(12), rel=0.03)


def test_ripples_are_no_peaks():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(500, 40, 100_000), rng.normal(900, 10, 300)]).astype(np.float32)
    assert len(peaks_of(values, float(values.min()), float(values.max()))) == 1


@pytest.mark.parametrize(
    ("contrast", "peak"),
    [
        ("T1w", "last"),
        ("ce-T1w", "last"),
        ("PDw", "first"),
        ("T2w", "largest"),
        ("FLAIR", "largest"),
        (None, "largest"),
    ],
)
def test_the_contrast_s_name_says_which_peak(contrast, peak):
    assert peak_for(contrast, {}) == peak
    assert peak_for("T1w", {"T1w": "first"}) == "first"


def test_stored_whole_numbers_are_no_peaks(values):
    coarse = np.round(values / 25)
    found = peaks_of(coarse, float(coarse.min()), float(coarse.max()))
    assert [place for place, _ in found] == pytest.approx([mean / 25 for mean in MEANS], abs=1)


def test_what_has_no_stripe_is_refused():
    with pytest.raises(DataError, match="has one value only about the peak"):
        stripe_of(np.repeat(np.float32([1, 5, 9]), [10, 1000, 10]), 0, 10, "largest")
    with pytest.raises(DataError, match="no peak"):
        stripe_of(np.zeros(0, np.float32), 0, 1, "largest")


def test_white_matter_of_a_phantom_without_its_skull_is_near_0():
    hospital = hospital_named("abbey")
    seen = examine(hospital, ("T1w",), seed=2, number=1, voxel_mm=4.0)
    brain = np.isin(seen.labels, [TISSUES.index(name) for name in ("white_matter", "grey_matter", "csf")])
    image = Image(np.where(brain, seen.scans[0].image, 0).astype(np.float32), seen.grid.affine, "T1w")
    done = oriented(image, Preparation(mask="nonzero", normalisation="white-stripe"))
    values = done.scale.apply(done.array)
    white, grey = (seen.labels == TISSUES.index(name) for name in ("white_matter", "grey_matter"))
    apart = np.median(values[white]) - np.median(values[grey])
    assert abs(np.median(values[white])) < 0.25 * apart
    whole = Image(seen.scans[0].image.astype(np.float32), seen.grid.affine, "T1w")
    with pytest.raises(DataError, match="shows more than a brain; set mask: brain"):
        oriented(whole, Preparation(normalisation="white-stripe"))


def raw(**prepare):
    return {
        "name": "x",
        "contrasts": ["T1w", "T2w"],
        "sites": {"north": {"data": {"format": "bids", "path": "x"}, "tasks": ["T1w->T2w"]}},
        "prepare": prepare,
    }


def test_synthesis_needs_values_with_ends():
    for kind in ("zscore", "white-stripe"):
        with pytest.raises(ConfigError, match=r"prepare\.normalisation.*synthesis draws values from -1 to 1"):
            recipe.build(raw(normalisation=kind))
    with pytest.raises(ConfigError, match="'FLAIR' is not among `contrasts`"):
        recipe.build(raw(white_stripe={"FLAIR": "last"}))
