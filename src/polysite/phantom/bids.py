"""How every phantom is written: plain files, each data set whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from polysite.errors import DataError
from polysite.image import Image, write_image

Progress = Callable[[str], None]
BIDS_VERSION = "1.9.0"


def require_free(out: Path) -> None:
    """Refuse a folder that holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already there and not empty; choose another folder or remove it")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block succeeds and vanishes when not.

    Raises
    ------
    DataError
        If `out` is not empty or cannot be written.
    """
    require_free(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.is_dir():
            out.rmdir()
        temporary.replace(out)
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written: {error.strerror}; check the folder and its space"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def subjects_of(
    hospital: str, n_subjects: int, progress: Progress | None = None
) -> Iterator[tuple[int, str]]:
    """Number and label of a hospital's subjects in turn; each is told of as it begins."""
    for number in range(1, n_subjects + 1):
        subject = f"sub-{hospital}{number:02d}"
        if progress:
            progress(f"{hospital}: making {subject} ({number} of {n_subjects})")
        yield number, subject


def described(name: str, kind: str) -> dict[str, Any]:
    """A data set's description; `kind` is ``"raw"`` or ``"derivative"``."""
    return {
        "Name": name,
        "DatasetType": kind,
        **({"DatasetLinks": {"raw": "../.."}} if kind == "derivative" else {}),
        "BIDSVersion": BIDS_VERSION,
        "License": "CC0",
        "Authors": ["Polysite"],
        "GeneratedBy": [{"Name": "polysite phantom", "Version": version("polysite")}],
    }


def seconds(value_ms: float) -> float:
    """Milliseconds as BIDS wants them."""
    return round(value_ms / 1000, 6)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a sidecar."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tsv(path: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write a table, its header first."""
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def write_volume(
    path: Path, array: Any, affine: NDArray[np.float64], dtype: str, sidecar: dict[str, Any]
) -> None:
    """Write ``path.nii.gz`` and its sidecar ``path.json``."""
    image = Image(np.asarray(array, dtype=np.float32), affine)
    write_image(image, path.with_name(f"{path.name}.nii.gz"), dtype=dtype)
    write_json(path.with_name(f"{path.name}.json"), sidecar)
