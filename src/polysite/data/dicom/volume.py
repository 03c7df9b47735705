"""A series as an image: the slices' values on the grid that their headers give."""

import numpy as np

from polysite.data.dicom.pixels import Values, values_of
from polysite.data.dicom.reading import Damaged
from polysite.data.dicom.scan import Series
from polysite.data.dicom.series import Stack, stack_of
from polysite.errors import DataError
from polysite.image import Image


def read_series(series: Series, contrast: str | None = None) -> tuple[Image, Stack]:
    """A series as a volume, and the stack that says which slice came from where.

    Returns
    -------
    Image
        float32, RAS+; axes are along a row, along a column and from slice to slice. `path` is None: it may
        name a person.
    Stack
        See `polysite.data.dicom.series`.

    Raises
    ------
    DataError
        If the series is not one whole volume. The message names files by their numbers alone.
    """
    stack = stack_of(series)
    numbers = {listed.path: number for number, listed, _ in series.files}
    array = None
    held: dict[object, Values] = {}
    for index, piece in enumerate(stack.slices):
        if piece.path not in held:
            held.clear()  # a file's slices may be anywhere in a stack, but then there is one file
            try:
                held[piece.path] = values_of(piece.path, piece.header)
            except Damaged as error:
                raise DataError(
                    f"file {numbers[piece.path]} of it {error}; export the series again"
                ) from None
            except OSError as error:
                raise DataError(
                    f"file {numbers[piece.path]} of it cannot be read: {error.strerror}"
                ) from None
        if array is None:  # not before a file has shown that its header tells the truth about its size
            array = np.empty(stack.shape, np.float32)
        array[:, :, index] = held[piece.path][piece.frame.index].T
    assert array is not None
    if not np.isfinite(array).all():
        raise DataError("its rescaled values are too large for an image; the header is damaged")
    return Image(array, stack.affine, contrast, notes=stack.notes), stack
