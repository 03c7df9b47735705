"""A picture that is painted tissue by tissue, each with the signal that a sequence makes of it."""

from collections.abc import Callable, Mapping

import numpy as np

from polysite.phantom.shapes import Array, Box
from polysite.phantom.tissue import Tissue

Signal = Callable[[Tissue, Array], Array]
"""Signal of a tissue at frequencies off resonance (Hz)."""

FREQUENCIES = np.linspace(-400, 400, 401).astype(np.float32)
WHOLE = (slice(None),) * 3


class Canvas:
    """The signal of every voxel; each layer covers what lies below it by the fraction that it fills.

    Parameters
    ----------
    table : mapping of name to Tissue
    signal : callable
        The sequence.
    off_hz, texture : float32 arrays (x, y, z)
        Field offset, and variation inside tissues with standard deviation 1.
    """

    def __init__(self, table: Mapping[str, Tissue], signal: Signal, off_hz: Array, texture: Array) -> None:
        self.values = np.zeros(off_hz.shape, np.float32)
        self._off_hz, self._texture, self._table = off_hz, texture, table
        self._signal = signal
        self._curves: dict[str, Array] = {}

    def paint(self, tissue: str, cover: Array, box: Box = WHOLE) -> None:
        """Cover a block with a tissue by fractions of its shape."""
        if tissue not in self._curves:
            self._curves[tissue] = self._signal(self._table[tissue], FREQUENCIES).astype(np.float32)
        where = np.nonzero(cover)
        share = cover[where]
        level = np.interp(self._off_hz[box][where], FREQUENCIES, self._curves[tissue])
        level = level * np.exp(np.float32(self._table[tissue].variation) * self._texture[box][where])
        self.values[box][where] += share * (level.astype(np.float32) - self.values[box][where])

    def part(self, box: Box, n_sub: int) -> "Canvas":
        """A copy of a block with every slice repeated `n_sub` times, to paint finer along the stack."""
        piece = Canvas(
            self._table,
            self._signal,
            np.repeat(self._off_hz[box], n_sub, axis=2),
            np.repeat(self._texture[box], n_sub, axis=2),
        )
        piece.values = np.repeat(self.values[box], n_sub, axis=2)
        piece._curves = self._curves
        return piece
