"""Intensities to [-1, 1], or to a mean or peak of 0 and a deviation of 1, by a volume's voxels inside its own mask."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from polysite.config.prepare import Normalisation, Peak
from polysite.data.white_stripe import stripe_of
from polysite.errors import DataError

RINGING = 0.05
"""Negative values in at most this share of the voxels other than zero are ringing of an interpolation."""


@dataclass(frozen=True)
class Scale:
    """The values that become -1 and 1."""

    low: float
    high: float

    def apply(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map linearly and clip to [-1, 1]."""
        unit = (array - np.float32(self.low)) / np.float32(self.high - self.low)
        return np.asarray(np.clip(2 * unit - 1, -1, 1), dtype=np.float32)

    def record(self) -> dict[str, float]:
        """For the sidecar."""
        return asdict(self)


@dataclass(frozen=True)
class ZScore(Scale):
    """The values between which is clipped, and the mean and standard deviation of what is left.

    Results fit float16: of n values none is more than the root of n deviations from their mean.
    """

    mean: float
    deviation: float

    def apply(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clip, subtract the mean, divide by the deviation."""
        clipped = np.clip(array, self.low, self.high, dtype=np.float64)
        return np.asarray((clipped - self.mean) / self.deviation, dtype=np.float32)


@dataclass(frozen=True)
class WhiteStripe(Scale):
    """The values between which is clipped, white matter's peak and the deviation about it."""

    peak: float
    deviation: float

    def apply(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clip, subtract the peak, divide by the deviation."""
        clipped = np.clip(array, self.low, self.high, dtype=np.float64)
        return np.asarray((clipped - self.peak) / self.deviation, dtype=np.float32)


def scale_of(
    array: NDArray[np.float32],
    mask: NDArray[np.bool_],
    percentiles: tuple[float, float],
    kind: Normalisation = "range",
    peak: Peak = "largest",
) -> Scale:
    """The percentiles of a volume's values inside its mask, and what else the normalisation needs.

    For ``zscore`` mean and deviation, for ``white-stripe`` those of white matter, found by the given `peak`.

    Only this volume is looked at, so a contrast gets the same values whether its subject's other
    contrasts are at hand (training) or not (prediction).

    Raises
    ------
    DataError
        If both percentiles have the same value, or there is no white matter to be found.
    """
    values = array[mask] if mask.any() else array.ravel()
    low, high = (float(value) for value in np.percentile(values, percentiles))
    if not low < high:
        raise DataError(
            f"constant inside its mask: percentiles {percentiles[0]:g} and {percentiles[1]:g} are both {low:g}"
        )
    if kind == "range":
        return Scale(low, high)
    if kind == "white-stripe":
        return WhiteStripe(low, high, *stripe_of(values, low, high, peak))
    clipped = np.clip(values, low, high, dtype=np.float64)
    return ZScore(low, high, float(clipped.mean()), float(clipped.std()))


def without_ringing(array: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Small negative values clipped at 0, and the share of voxels (other than 0) that were negative.

    Where more is negative the image was scaled about some other zero and nothing is clipped.
    """
    n_values = int(np.count_nonzero(array))
    share = float((array < 0).sum() / n_values) if n_values else 0.0
    return (np.maximum(array, 0) if 0 < share <= RINGING else array), share
