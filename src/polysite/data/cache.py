"""A prepared case on disk: slice-first arrays to be memory-mapped, and the record of how they were made.

``case.json`` holds the record with a digest of itself, and size, time and SHA-256 of every array. An array
whose size and time are as recorded is trusted; if the time differs (the cache was copied, or edited) its
content is read and compared.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.data.orient import from_canonical
from polysite.data.resample import Grid, resample
from polysite.data.stored import StoredSlices, stored_slices
from polysite.errors import DataError
from polysite.image import Image

VERSION = 6
"""Raised whenever the same settings would give other arrays, or a record of other keys."""
BACKGROUND = -1.0
LABELS = "labels of the part"
"""File of the labels: no contrast's name, which has no blanks."""


def sha256_of(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sealed(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> None:
    """Write a case's arrays and, last, its record, into a folder that nobody reads yet."""
    files = {}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, array, allow_pickle=False)
        status = path.stat()
        files[path.name] = {"size": status.st_size, "time_ns": status.st_mtime_ns, "sha256": sha256_of(path)}
    full = {**record, "files": files}
    text = json.dumps({**full, "digest": _sealed(full)}, indent=1)
    (folder / "case.json").write_text(text, encoding="utf-8")


class PreparedCase:
    """A case whose contrasts lie on one grid, normalised. Made by `open_case`; arrays are memory maps.

    Attributes
    ----------
    folder : Path
        Where it is cached.
    record : dict
        The content of ``case.json``: inputs, settings and every step with its figures.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record

    @property
    def site(self) -> str:
        """The site it belongs to."""
        return str(self.record["site"])

    @property
    def subject(self) -> str:
        """The subject's label, without ``sub-``."""
        return str(self.record["subject"])

    @property
    def session(self) -> str | None:
        """The session's label, without ``ses-``."""
        session: str | None = self.record["session"]
        return session

    @property
    def key(self) -> str:
        """``sub-01``, ``sub-01_ses-x``, or ``sub-01_ED`` of a part."""
        return str(self.record["key"])

    @property
    def part(self) -> str | None:
        """The contrast, if this is one image prepared on its own (segmentation)."""
        part: str | None = self.record["part"]
        return part

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Contrasts at hand, in the run's order."""
        return tuple(self.record["contrasts"])

    @property
    def reference(self) -> str:
        """The contrast whose grid this is."""
        return str(self.record["reference"])

    @property
    def grid(self) -> Grid:
        """The prepared grid, axes (x, y, z); arrays are stored (z, x, y)."""
        stored = self.record["grid"]
        x, y, z = stored["shape"]
        return Grid((x, y, z), np.asarray(stored["affine"]))

    def volume(self, contrast: str) -> NDArray[np.float16]:
        """A contrast, (z, x, y), normalised: in [-1, 1], or with mean 0 and deviation 1."""
        self._require(contrast)
        volume: NDArray[np.float16] = self._map(contrast)
        return volume

    def slices(self, contrast: str) -> StoredSlices:
        """The same one slice after another, (x, y) each, without a file that stays open."""
        self._require(contrast)
        return stored_slices(self.folder / f"{contrast}.npy")

    def mask(self) -> NDArray[np.bool_]:
        """The foreground of the reference contrast where every contrast has values, (z, x, y)."""
        mask: NDArray[np.bool_] = self._map("mask")
        return mask

    def labels(self) -> NDArray[np.integer[Any]] | None:
        """A part's labels on the prepared grid, (z, x, y), with the values of its label image; None without one."""
        return None if self.record["labels"] is None else self._map(LABELS)

    def _require(self, contrast: str) -> None:
        if contrast not in self.contrasts:
            raise DataError(
                f"{self.key} at {self.site}: has no {contrast}; it has {', '.join(self.contrasts)}"
            )

    def _map(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def to_native(
        self, volume: NDArray[Any], *, contrast: str | None = None, outside: float = BACKGROUND
    ) -> Image:
        """A volume of the prepared grid on the reference contrast's own grid.

        Where preparing changed the orientation alone, every value comes back exactly; a changed voxel
        size is undone by linear interpolation.

        Parameters
        ----------
        volume : NDArray, (z, x, y)
            On the prepared grid.
        contrast : str, optional
            What the image shows.
        outside : float
            Value of native voxels that the prepared grid does not reach.

        Returns
        -------
        Image
            With the shape, affine, sform and qform codes of the reference's file.

        Raises
        ------
        DataError
            If the volume is not of the prepared grid's shape.
        """
        grid = self.grid
        if volume.shape != (grid.shape[2], *grid.shape[:2]):
            raise DataError(
                f"{self.key} at {self.site}: a volume of shape {volume.shape} is not on the prepared grid "
                f"{(grid.shape[2], *grid.shape[:2])} (z, x, y)"
            )
        native = self.record["native"]
        x, y, z = native["canonical_shape"]
        canonical = Grid((x, y, z), np.asarray(native["canonical_affine"]))
        array = np.ascontiguousarray(np.transpose(volume, (1, 2, 0)), dtype=np.float32)
        on_canonical = resample(array, grid.affine, canonical, fill=outside)
        stored = from_canonical(on_canonical, np.asarray(native["orientation"]))
        return Image(
            array=stored.reshape(native["shape"]),
            affine=np.asarray(native["affine"]),
            contrast=contrast,
            sform_code=native["sform_code"],
            qform_code=native["qform_code"],
            header=_header_from(native["header"]),
        )


def header_text(header: Any) -> str | None:
    """A NIfTI header as text for the record."""
    return None if header is None else base64.b64encode(header.binaryblock).decode()


def _header_from(text: str | None) -> Any:
    if text is None:
        return None
    from nibabel import Nifti1Header, Nifti2Header

    block = base64.b64decode(text)
    return (Nifti1Header if len(block) == Nifti1Header.sizeof_hdr else Nifti2Header)(block)


def open_case(folder: Path) -> PreparedCase:
    """Open a prepared case and verify that nothing of it is missing, cut short or edited.

    Raises
    ------
    DataError
        Naming the file; removing the folder makes the next run prepare the case again.
    """
    path = folder / "case.json"
    remedy = f"remove {folder} and prepare again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["digest"] != _sealed(record) or record["version"] != VERSION:
            raise DataError(f"{path}: was edited or is of another version; {remedy}")
        for name, expected in record["files"].items():
            status = (folder / name).stat()
            same = status.st_size == expected["size"] and (
                status.st_mtime_ns == expected["time_ns"] or sha256_of(folder / name) == expected["sha256"]
            )
            if not same:
                raise DataError(f"{folder / name}: was cut short or edited; {remedy}")
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}; {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is damaged; {remedy}") from error
    return PreparedCase(folder, record)
