"""Random fields with a chosen wavelength: folds, warps and the variation inside a tissue."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polysite.phantom.shapes import Array, Points

EXTENT_MM = 264.0
"""Width of the cube, centred on the head, on which a field is drawn; it repeats beyond."""


class Field:
    """A smooth random function of position with mean 0 and standard deviation 1.

    It is drawn once on a coarse lattice of its own and read anywhere by interpolation, so it does not
    depend on the grid of the images.

    Parameters
    ----------
    rng : numpy Generator
    wavelength_mm : float
        Typical distance from crest to crest.
    bandwidth : float
        Spread of the spatial frequency around 1 / wavelength, as a fraction of it. Narrow (0.3) gives
        the winding stripes of a cortex; wide (1) gives clouds.
    detail : float
        Amplitude of a second band at a third of the wavelength.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        wavelength_mm: float,
        *,
        bandwidth: float = 1.0,
        detail: float = 0.0,
    ) -> None:
        self.wavelength_mm = wavelength_mm
        n = round(EXTENT_MM / min(max(wavelength_mm / (12 if detail else 6), 2.5), EXTENT_MM / 16))
        self.step_mm = EXTENT_MM / n
        frequency = np.sqrt(
            sum(
                f * f
                for f in np.meshgrid(
                    *[np.fft.fftfreq(n, self.step_mm)] * 2, np.fft.rfftfreq(n, self.step_mm), indexing="ij"
                )
            )
        )
        if bandwidth < 1:
            gain = np.exp(-0.5 * ((frequency * wavelength_mm - 1) / (0.5 * bandwidth)) ** 2)
        else:
            gain = np.exp(-0.5 * (frequency * wavelength_mm / 0.7) ** 2)
        if detail:  # the second band has 3^3 times the modes
            gain += detail / 27**0.5 * np.exp(-0.5 * ((frequency * wavelength_mm / 3 - 1) / 0.25) ** 2)
        gain[0, 0, 0] = 0
        white = rng.standard_normal((n, n, n), dtype=np.float32)
        values = np.fft.irfftn(np.fft.rfftn(white) * gain, s=(n, n, n), axes=(0, 1, 2))
        values = (values / values.std()).astype(np.float32)
        self._spline = ndimage.spline_filter(values, order=3, mode="grid-wrap", output=np.float32)

    def __call__(self, points: Points) -> Array:
        """The field's value at points in mm."""
        scale, shift = np.float32(1 / self.step_mm), np.float32(0.5 * EXTENT_MM / self.step_mm)
        coordinates: NDArray[np.float32] = np.stack([p * scale + shift for p in points])
        values: Array = ndimage.map_coordinates(
            self._spline, coordinates, order=3, mode="grid-wrap", prefilter=False, output=np.float32
        )
        return values

    def cloud(self, points: Points) -> Array:
        """The field on a whole grid of points, read on a coarser one and interpolated: much faster.

        For wide bands only; points are arrays (x, y, z) that vary smoothly along the grid.
        """
        shape = points[0].shape
        near = [
            np.abs(np.diff(p, axis=k)).max() if n > 1 else 1.0
            for k, (p, n) in enumerate(zip(points, shape, strict=True))
        ]
        strides = [max(1, int(self.wavelength_mm / 8 / step)) for step in near]
        knots = [np.unique(np.append(np.arange(0, n, k), n - 1)) for n, k in zip(shape, strides, strict=True)]
        coarse = self(tuple(p[np.ix_(*knots)] for p in points))
        for axis, (at, n) in enumerate(zip(knots, shape, strict=True)):
            coarse = np.moveaxis(np.tensordot(_linear(at, n), coarse, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(coarse)


def _linear(knots: NDArray[np.int_], n: int) -> Array:
    """Matrix (n, knots) that interpolates values at `knots` linearly to 0 … n - 1."""
    matrix = np.stack([np.interp(np.arange(n), knots, row) for row in np.eye(len(knots))], axis=1)
    return matrix.astype(np.float32)
