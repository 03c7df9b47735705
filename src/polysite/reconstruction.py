"""The reconstruction in a file of fastMRI (HDF5): its values, and the voxel size that its header tells."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.bounded import LARGEST_BYTES
from polysite.errors import DataError

_SPACE = "encoding/reconSpace"
NOTES = (
    "the file holds no orientation: axes are its own, columns, rows and slices",
    "the distance of slices is their thickness: the file does not tell the gap between them",
)


def read_reconstruction(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """The root sum of squares of all coils, and the voxel size.

    Returns
    -------
    array : NDArray of float32, (column, row, slice)
    spacing_mm : tuple of float
        Along these axes: the reconstructed field of view by its matrix.

    Raises
    ------
    DataError
        If h5py is not installed, the file is damaged, or it holds no reconstruction, as those of the test set.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: HDF5 files need h5py: pip install 'polysite[fastmri]'") from error
    try:
        with h5py.File(path, "r") as file:
            names = sorted(file)
            if "reconstruction_rss" not in names:
                held = ", ".join(names) or "nothing"
                raise DataError(
                    f"{path}: holds no reconstruction_rss but {held}; use the training or validation set"
                )
            stored = np.asarray(_own(file, "reconstruction_rss")[()], dtype=np.float32)
            header = _own(file, "ismrmrd_header")[()] if "ismrmrd_header" in names else b""
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable or cut short ({reason}); copy the file again") from error
    if stored.ndim != 3 or not stored.size:
        raise DataError(
            f"{path}: reconstruction_rss must have slices, rows and columns, not shape {stored.shape}"
        )
    return np.ascontiguousarray(stored.T), _spacing_mm(path, header)


def _own(file: Any, name: str) -> Any:
    """A data set of a file that lies in that file and is not larger than an image may be; HDF5 can lead elsewhere."""
    import h5py

    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link")  # to another file, perhaps: it is not opened
    values = file[name]
    if values.external or values.is_virtual:
        raise ValueError(f"the values of {name} are not in this file")
    if values.size * values.dtype.itemsize > LARGEST_BYTES:
        raise ValueError(f"{name} is said to be of shape {values.shape}")
    return values


def _spacing_mm(path: Path, header: Any) -> tuple[float, float, float]:
    """Voxel size by column, row and slice: rows lie along the readout, x of the header, columns along y."""
    try:
        if b"<!DOCTYPE" in bytes(header):  # could define entities that grow without end
            raise ValueError("it defines a document type")
        document = ElementTree.fromstring(header)
        for element in document.iter():
            element.tag = element.tag.rpartition("}")[2]  # without the namespace

        def number(name: str) -> float:
            value = float(document.findtext(f"{_SPACE}/{name}") or "nan")
            if not 0 < value < 1e5:
                raise ValueError(f"{name} is {value:g}")
            return value

        x, y, z = (number(f"fieldOfView_mm/{axis}") / number(f"matrixSize/{axis}") for axis in "xyz")
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: ismrmrd_header does not tell the voxel size ({error}); copy the file again"
        ) from error
    return y, x, z
