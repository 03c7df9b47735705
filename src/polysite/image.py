"""A volume with its place in space: read it, write it, lose nothing.

NIfTI goes through nibabel (it also reads direction cosines that are not quite orthogonal), MetaImage
through SimpleITK. Coordinates are millimetres in RAS+ throughout.
"""

import gzip
import math
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.bounded import read_bounded
from polysite.errors import DataError
from polysite.meta_header import check_meta_header
from polysite.reconstruction import NOTES, read_reconstruction

NIFTI = (".nii.gz", ".nii")
META_IMAGE = (".mha", ".mhd")
RECONSTRUCTION = (".h5",)
READ = NIFTI + META_IMAGE + RECONSTRUCTION
_GEOMETRY = (
    "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Image:
    """A volume, where it lies, and what it shows.

    Attributes
    ----------
    array : NDArray of float32, (x, y, z) or (x, y, z, t)
        Intensities.
    affine : NDArray of float64, (4, 4)
        Voxel index to millimetres, RAS+.
    contrast : str or None
        For example ``"T1w"``.
    sform_code, qform_code : int
        NIfTI codes that say what space the coordinates are in.
    path : Path or None
        The file it was read from.
    header : nibabel header or None
        The geometry fields of the file and nothing else (no names, no free text), so that writing gives
        the same bytes of geometry back. It is ignored once `affine` is no longer the one it holds.
    notes : tuple of str
        What was mended while reading.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    contrast: str | None = None
    sform_code: int = 1
    qform_code: int = 1
    path: Path | None = None
    header: Any = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along the array's axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def with_array(self, array: NDArray[Any]) -> "Image":
        """Other intensities in the same place."""
        return replace(self, array=np.asarray(array, dtype=np.float32), path=None)


# --- reading ------------------------------------------------------------------------------------------


def suffix_of(path: Path) -> str | None:
    """The format's suffix of a file name (``".nii.gz"``, ``".mha"``, ...), or None if it is none we read."""
    return next((suffix for suffix in READ if path.name.lower().endswith(suffix)), None)


def read_image(path: Path, contrast: str | None = None) -> Image:
    """Read a NIfTI or MetaImage file, or the reconstruction in a file of fastMRI.

    Values are scaled as the header says and given as float32; NaN and infinity are kept. If the sform's
    scale disagrees by more than 1 % with the voxel size in ``pixdim`` (ACDC and EMIDEC store a unit-scale
    sform), the voxel size wins, the directions and the first voxel's place are kept, and `notes` says so.

    Raises
    ------
    DataError
        If the file is missing, unreadable, cut short or corrupt, or its values are no real numbers.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise DataError(f"{path}: not an image that is read here; use one of {', '.join(READ)}")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if suffix in RECONSTRUCTION:
        array, spacing_mm = read_reconstruction(path)
        return Image(array, np.diag([*spacing_mm, 1.0]), contrast, path=path, notes=NOTES)
    return _read_nifti(path, contrast) if suffix in NIFTI else _read_meta_image(path, contrast)


def _read_nifti(path: Path, contrast: str | None) -> Image:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        content = read_bounded(path, nibabel.Nifti2Header.sizeof_hdr, _promised_by_nifti)
        needed = _promised_by_nifti(content)
        if needed > len(content):
            raise ValueError(f"its header promises {needed} bytes, the file has {len(content)}")
        image = _nifti_of(content).from_bytes(content)
        with np.errstate(over="ignore", invalid="ignore"):
            array = image.get_fdata(dtype=np.float32, caching="unchanged")
    except (
        OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, MemoryError,
        zlib.error, struct.error, ImageFileError, HeaderDataError, WrapStructError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable or cut short ({reason}); copy the file again") from error
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"{path}: the header's affine is not invertible; repair the header")
    affine, notes = _mend_scale(affine, image.header)
    return Image(
        array=np.ascontiguousarray(array),
        affine=affine,
        contrast=contrast,
        sform_code=int(image.header["sform_code"]),
        qform_code=int(image.header["qform_code"]),
        path=path,
        header=geometry_of(image.header),
        notes=notes,
    )


def _nifti_of(content: bytes) -> Any:
    """The class of a NIfTI file by the size of its header, in either order of bytes."""
    import nibabel

    sizes = [struct.unpack(order + "i", content[:4])[0] for order in "<>"]
    return nibabel.Nifti2Image if nibabel.Nifti2Header.sizeof_hdr in sizes else nibabel.Nifti1Image


def _promised_by_nifti(content: bytes) -> int:
    """Bytes of a NIfTI file up to its last value, as its header says."""
    header = _nifti_of(content).header_class.from_fileobj(BytesIO(content))
    kind = header.get_data_dtype()
    if kind.kind not in "iufb":
        raise ValueError(f"it holds {kind} values, not real numbers")
    shape = header.get_data_shape()
    if not shape or min(shape) < 1:
        raise ValueError(f"it has the shape {shape}")
    n_bytes: int = math.prod(shape) * kind.itemsize + max(0, int(header["vox_offset"]))
    return n_bytes


def _mend_scale(affine: NDArray[np.float64], header: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine with the voxel size of ``pixdim`` where the two disagree by more than 1 %."""
    n_axes = min(3, len(header.get_zooms()))
    zooms = np.ones(3)
    zooms[:n_axes] = [float(zoom) for zoom in header.get_zooms()[:n_axes]]
    norms = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(zooms).all() or (zooms <= 0).any() or (np.abs(norms / zooms - 1) <= 0.01).all():
        return affine, ()
    mended = affine.copy()
    mended[:3, :3] *= zooms / norms
    told, used = (" × ".join(f"{size:.4g}" for size in sizes) for sizes in (norms, zooms))
    return mended, (f"the affine says voxels of {told} mm, pixdim says {used} mm; pixdim was used",)


def geometry_of(header: Any) -> Any:
    """A NIfTI header of the same kind with the geometry fields alone."""
    bare = type(header)()
    for name in _GEOMETRY:
        bare[name] = header[name]
    return bare


def _read_meta_image(path: Path, contrast: str | None) -> Image:
    import SimpleITK as sitk

    try:
        check_meta_header(path)
        image = sitk.ReadImage(str(path), imageIO="MetaImageIO")
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(f"{path}: unreadable or cut short ({reason}); copy the file again") from error
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() not in (3, 4):
        raise DataError(f"{path}: must hold one value a voxel in 3-D, not {image.GetPixelIDTypeAsString()}")
    dimension = image.GetDimension()
    directions = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's LPS to RAS
    array = sitk.GetArrayFromImage(image).T.astype(np.float32)
    return Image(np.ascontiguousarray(array), affine, contrast, path=path)


# --- writing ------------------------------------------------------------------------------------------


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block succeeds and vanishes when not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _header_for(image: Image) -> Any:
    """The file's own geometry fields if they still hold the image's affine, else new ones."""
    import nibabel

    if image.header is not None:
        kept = image.header.copy()
        kept.set_data_shape(image.shape)
        codes = (int(kept["sform_code"]), int(kept["qform_code"]))
        if codes == (image.sform_code, image.qform_code) and np.array_equal(
            kept.get_best_affine(), image.affine
        ):
            return kept
    header = nibabel.Nifti1Header()
    header.set_data_shape(image.shape)
    header.set_zooms((*image.spacing_mm, *[1.0] * (image.array.ndim - 3)))
    header.set_qform(image.affine, code=image.qform_code)
    header.set_sform(image.affine, code=image.sform_code)
    if not (image.sform_code or image.qform_code) and not np.allclose(
        header.get_best_affine(), image.affine, atol=1e-4
    ):
        header.set_sform(image.affine, code=1)  # both codes 0 would lose the place
    header.set_xyzt_units("mm", "sec")
    return header


def write_image(image: Image, path: Path, *, dtype: str = "float32") -> None:
    """Write a NIfTI file: whole or not at all, and the same bytes for the same image.

    Parameters
    ----------
    image : Image
        What to write; its affine, sform and qform codes are kept.
    path : Path
        ``.nii.gz`` or ``.nii``; missing folders are made.
    dtype : str
        How values are stored. For integers they are rounded; values out of range are an error.

    Raises
    ------
    DataError
        If the suffix is another, a value does not fit, or the disk refuses.
    """
    import nibabel

    if suffix_of(path) not in NIFTI:
        raise DataError(f"{path}: images are written as .nii.gz or .nii; change the name")
    kind = np.dtype(dtype)
    array: NDArray[Any] = image.array
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        array = np.rint(array)
        if not np.isfinite(array).all() or array.min() < limits.min or array.max() > limits.max:
            raise DataError(f"{path}: values from {array.min()} to {array.max()} do not fit {dtype}")
    header = _header_for(image)
    header.set_data_dtype(kind)
    nifti = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    content = nifti(array.astype(kind), None, header).to_bytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary, temporary.open("wb") as file:
            if path.name.lower().endswith(".gz"):
                # no name and no time in the gzip header: the same image gives the same bytes
                with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                    packed.write(content)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror}; check the folder and its space"
        ) from error
