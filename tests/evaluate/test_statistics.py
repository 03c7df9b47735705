"""Closed forms of the intervals and tests."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from polysite.evaluate.statistics import holm, mean_interval, signed_rank_p, smallest_p


def test_interval_of_values_that_are_equal_is_the_value():
    assert (mean_interval([2.5] * 8).low, mean_interval([2.5] * 8).high) == (2.5, 2.5)


def test_interval_is_the_same_for_the_same_seed_and_moves_with_the_values():
    values = np.random.default_rng(1).normal(size=12)
    first = mean_interval(values, seed=4)
    moved = mean_interval(3 + values, seed=4)
    assert mean_interval(values, seed=4) == first
    assert mean_interval(values, seed=5) != first
    assert (moved.low - 3, moved.high - 3) == (pytest.approx(first.low), pytest.approx(first.high))


def test_interval_approaches_students_for_many_values():
    values = np.random.default_rng(2).normal(size=400)
    half = 1.966 * values.std(ddof=1) / math.sqrt(400)  # t quantile with 399 degrees of freedom
    interval = mean_interval(values)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_interval_of_few_values_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    samples = rng.normal(size=(600, 6))
    found = [mean_interval(sample, n_resamples=1000, seed=k) for k, sample in enumerate(samples)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.91 <= covered <= 0.97  # the plain percentile interval stays near 0.81


def test_too_few_subjects_have_no_interval_and_no_p_value():
    assert (mean_interval([1.0, 2.0]).low, mean_interval([1.0]).high) == (None, None)
    assert mean_interval([1.0, 2.0, 3.0]).low == pytest.approx(1.0)  # as wide as a bootstrap can be
    assert signed_rank_p([1, 2, 3, 4, 5]) is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0, 2.0]]])
def test_values_must_be_finite_and_one_a_subject(values):
    with pytest.raises(ValueError, match="one finite number a subject"):
        mean_interval(values)


@pytest.mark.parametrize(
    "differences",
    [
        [1.5, -0.5, 2.0, 3.0, 4.0, 5.0, 6.0],
        [1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -3.0],  # ties: midranks
        [0.0, 1.0, 2.0, -3.0, 4.0, 5.0, 6.0],  # a zero is dropped
    ],
)
def test_p_value_is_the_share_of_sign_patterns_that_are_as_extreme(differences):
    moved = np.array([value for value in differences if value])
    ranks = rankdata(abs(moved))
    centre = ranks.sum() / 2
    seen = abs(ranks[moved > 0].sum() - centre)
    patterns = [abs(np.dot(ranks, signs) - centre) for signs in product((0, 1), repeat=moved.size)]
    expected = np.mean([value >= seen - 1e-9 for value in patterns])
    assert signed_rank_p(differences) == pytest.approx(expected)


def test_no_difference_at_all_has_p_one():
    assert signed_rank_p([0.0] * 7) == 1.0


@pytest.mark.parametrize("n", [6, 7, 10, 20])
def test_the_smallest_p_is_that_of_differences_of_one_sign(n):
    assert signed_rank_p(np.arange(1.0, n + 1)) == pytest.approx(smallest_p(n))


def test_holm_is_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, found in zip(p_values, adjusted, strict=True):
        assert p <= found <= min(1.0, len(p_values) * p)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))
