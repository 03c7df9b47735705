"""Intervals and tests where the subject is the unit.

Slices of a head, and seeds of a run, are not independent observations: they are averaged before anything
here is called. Every function takes one number a subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MIN_SUBJECTS_INTERVAL = 3
"""With fewer subjects a mean is given without an interval."""

MIN_SUBJECTS_TEST = 6
"""With fewer no two-sided signed-rank test can reach 0.05: its smallest p value is 2^(1-n)."""


@dataclass(frozen=True)
class Interval:
    """A mean over n subjects and the confidence interval around it (None: too few subjects)."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(
    values: ArrayLike, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean over subjects with an expanded percentile bootstrap interval.

    The plain percentile interval is too narrow for few subjects (for normal values and n = 6 one of nominal
    95 % covers the truth 81 % of the time). The expanded one takes wider percentiles, so that it is as wide
    as Student's interval where the values are normal: alpha'/2 = Phi(-sqrt(n / (n - 1)) t), t the quantile
    of Student's distribution with n - 1 degrees of freedom (Hesterberg, The American Statistician 69:371,
    2015). With 3 or 4 subjects no bootstrap can be wide enough: it stops at the smallest and largest value.

    Parameters
    ----------
    values : array (n,)
        One finite number a subject.
    level : float
        Confidence level.
    n_resamples, seed : int
        Of the bootstrap; the same seed gives the same interval.

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.

    Examples
    --------
    >>> mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]).mean
    3.0
    >>> mean_interval([1.0, 2.0])
    Interval(mean=1.5, low=None, high=None, n=2)
    """
    sample = _sample(values)
    n = sample.size
    mean = float(sample.mean())
    if n < MIN_SUBJECTS_INTERVAL:
        return Interval(mean, None, None, n)
    if np.ptp(sample) == 0:
        return Interval(mean, mean, mean, n)
    t = stats.t.ppf((1 + level) / 2, n - 1)
    tail = float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * t))
    rows = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    low, high = np.quantile(sample[rows].mean(axis=1), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), n)


def signed_rank_p(differences: ArrayLike) -> float | None:
    """Two-sided p value of Wilcoxon's signed-rank test of paired differences, one a subject.

    Differences of zero are dropped (Wilcoxon's own rule). The distribution is exact up to 50 subjects
    without ties and up to 13 with ties, and the normal approximation above. None where fewer than
    `MIN_SUBJECTS_TEST` subjects make a test meaningless.

    Examples
    --------
    >>> signed_rank_p([1, 2, 3, 4, 5, 6])  # all of one sign: 2 of the 2^6 sign patterns are as extreme
    0.03125
    >>> signed_rank_p([1, 2, 3, 4, 5]) is None
    True
    """
    sample = _sample(differences)
    if sample.size < MIN_SUBJECTS_TEST:
        return None
    moved = sample[sample != 0]
    if moved.size == 0:
        return 1.0
    return float(stats.wilcoxon(moved).pvalue)


def smallest_p(n: int) -> float:
    """The smallest p value that the two-sided signed-rank test can give with n subjects."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values adjusted for all comparisons of a table (Holm, Scand. J. Statist. 6:65, 1979).

    A comparison without a p value stays without one and does not count.

    Examples
    --------
    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def _sample(values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(
            f"needs one finite number a subject, not an array of shape {sample.shape}: {sample!r}"
        )
    return sample
