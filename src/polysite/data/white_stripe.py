"""White matter's peak in a volume's histogram, and the spread about it.

Shinohara et al., NeuroImage: Clinical 6:9, 2014.
"""

import numpy as np
from numpy.typing import NDArray

from polysite.config.prepare import Peak
from polysite.errors import DataError

N_BINS = 512
SMOOTH = 0.01
"""Width of the Gaussian that smooths the histogram, as a share of its range."""
PROMINENCE = 0.1
"""What rises by less than this share of the highest peak above its surroundings is no peak."""
HALF_WIDTH = 0.05
"""The stripe holds the values whose quantiles are so near to the peak's."""


def peak_for(contrast: str | None, chosen: dict[str, Peak]) -> Peak:
    """Which peak is white matter's: brightest in T1w, darkest of the tissues in PDw, elsewhere the largest."""
    if contrast in chosen:
        return chosen[contrast]
    name = (contrast or "").upper()
    return "last" if "T1" in name else "first" if "PD" in name else "largest"


def peaks_of(values: NDArray[np.float32], low: float, high: float) -> list[tuple[float, float]]:
    """Places and heights of the peaks of a smoothed histogram between two values, darkest first.

    Bins and smoothing go with the range, so a linear change of the values moves the peaks with them.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    counts, edges = np.histogram(values, N_BINS, (low, high))
    # stored whole numbers are a comb, which has to be smoothed away
    width = N_BINS * max(SMOOTH, 1 / max(np.unique(values).size, 1))
    # what was clipped to the ends is no tissue
    smooth = gaussian_filter1d(counts.astype(np.float64), width, mode="constant")
    found, _ = find_peaks(np.pad(smooth, 1), prominence=PROMINENCE * smooth.max())
    centres = (edges[:-1] + edges[1:]) / 2
    return [(float(centres[index]), float(smooth[index])) for index in found - 1]


def stripe_of(values: NDArray[np.float32], low: float, high: float, which: Peak) -> tuple[float, float]:
    """White matter's peak and the standard deviation of the values in the stripe about it.

    Parameters
    ----------
    values : NDArray of float32, (n,)
        The voxels of a brain.
    low, high : float
        What lies beyond is not looked at: the brightest values are vessels.
    which : str
        ``first``, ``largest`` or ``last`` peak.

    Raises
    ------
    DataError
        If there is no peak, or all values of the stripe are the same.
    """
    seen = values[(values > low) & (values < high)].astype(np.float64)
    peaks = peaks_of(seen.astype(np.float32), low, high) if seen.size else []
    if not peaks:
        raise DataError("its histogram has no peak to take for white matter's; use another normalisation")
    place = {
        "first": peaks[0],
        "last": peaks[-1],
        "largest": max(peaks, key=lambda peak: peak[1]),
    }[which][0]
    half_a_bin = (high - low) / N_BINS / 2
    quantile = float(((seen < place - half_a_bin).mean() + (seen <= place + half_a_bin).mean()) / 2)
    ends = np.quantile(seen, [max(quantile - HALF_WIDTH, 0), min(quantile + HALF_WIDTH, 1)])
    deviation = float(seen[(seen >= ends[0]) & (seen <= ends[1])].std())
    if not deviation > 1e-4 * (high - low):
        raise DataError(
            f"has one value only about the peak of white matter at {place:g}; use another normalisation"
        )
    return place, deviation
