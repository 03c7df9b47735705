"""From scans to normalised volumes on one grid, each step recorded, cached on disk.

For every contrast on its own: canonical orientation, ringing clipped, mask, percentiles. Then rigid
registration to the reference contrast, resampling to its grid, normalisation. What a contrast's values
become depends on its own file alone, so training and prediction see the same.
"""

import hashlib
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.config import Prepare
from polysite.data.cache import VERSION, PreparedCase, header_text, open_case, sha256_of, write_arrays
from polysite.data.case import Case
from polysite.data.register import Registration, register
from polysite.data.resample import Affine, Grid, resample
from polysite.data.single import Oriented, oriented
from polysite.errors import DataError

Progress = Callable[[str], None]


def _align(moving: Oriented, reference: Oriented, mode: str) -> Registration | None:
    """The registration to the reference, if the settings ask for one."""
    if moving is reference or mode == "never" or (mode == "auto" and moving.grid.same_as(reference.grid)):
        return None
    return register(
        reference.clipped(), reference.grid.affine, reference.mask, moving.clipped(), moving.grid.affine
    )


def _bring(moving: Oriented, grid: Grid, transform: Affine | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Normalised float16 values on a grid, and where the moving volume reaches; both (z, x, y)."""
    values = resample(
        moving.array, moving.grid.affine, grid, transform=transform, fill=min(moving.scale.low, 0.0)
    )
    reach = resample(
        np.ones(moving.array.shape, np.float32), moving.grid.affine, grid, transform=transform, nearest=True
    )
    return (
        np.ascontiguousarray(np.transpose(moving.scale.apply(values), (2, 0, 1)), dtype=np.float16),
        np.ascontiguousarray(np.transpose(reach > 0.5, (2, 0, 1))),
    )


def digest_of(case: Case, settings: Prepare) -> str:
    """What a prepared case depends on: the content of its files, the settings, and this code's version.

    Content, not size and time: a copied or touched data set stays prepared, and no edit goes unseen.
    """
    content = {
        "version": VERSION,
        "settings": settings.model_dump(mode="json"),
        "case": [case.site, case.subject, case.session],
        "files": {contrast: _content_of(path) for contrast, path in case.images.items()},
        "order": list(case.images),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def prepare_case(
    case: Case, settings: Prepare, folder: Path, progress: Progress | None = None
) -> PreparedCase:
    """Prepare a case, or open it if that was done before.

    Parameters
    ----------
    case : Case
        With one contrast or more.
    settings : Prepare
        The run's or site's settings.
    folder : Path
        Holds prepared cases, each in a folder of its own, named after the case and what it depends on.
    progress : callable, optional
        Told with a line of text if the case is not prepared yet.

    Raises
    ------
    DataError
        If a file cannot be used, or the disk refuses.
    """
    target = folder / f"{case.key}-{digest_of(case, settings)[:20]}"
    if target.exists():
        try:
            return open_case(target)
        except DataError:
            _discard(target)
    if progress:
        progress(f"{case.site}: preparing {case.key}")
    try:
        with _new_folder(target) as temporary:
            arrays, record = _steps(case, settings)
            write_arrays(temporary, arrays, record)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written: {error.strerror or error}; check the folder and its space"
        ) from error
    return open_case(target)


def _steps(case: Case, settings: Prepare) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """A case's arrays and record."""
    name = settings.reference if settings.reference in case.images else next(iter(case.images))
    reference = oriented(case.images[name], name, settings)
    grid = reference.grid if settings.spacing_mm is None else reference.grid.with_spacing(settings.spacing_mm)
    mask = resample(reference.mask.astype(np.float32), reference.grid.affine, grid, nearest=True)
    seen = np.ascontiguousarray(np.transpose(mask > 0.5, (2, 0, 1)))
    arrays: dict[str, NDArray[Any]] = {}
    steps = {}
    for contrast, path in case.images.items():
        moving = reference if contrast == name else oriented(path, contrast, settings)
        found = _align(moving, reference, settings.registration)
        arrays[contrast], reach = _bring(moving, grid, found.transform if found else None)
        steps[contrast] = {
            **moving.record,
            "registration": found.record() if found else None,
            "resampled": bool(found) or not moving.grid.same_as(grid),
            "reach": float(reach[seen].mean()) if seen.any() else 0.0,
        }
        seen &= reach
    arrays["mask"] = seen
    record = {
        "version": VERSION,
        "site": case.site,
        "subject": case.subject,
        "session": case.session,
        "key": case.key,
        "contrasts": list(case.images),
        "reference": name,
        "settings": settings.model_dump(mode="json"),
        "inputs": {contrast: str(path) for contrast, path in case.images.items()},
        "steps": steps,
        "grid": {"shape": list(grid.shape), "affine": grid.affine.tolist()},
        "native": {
            "shape": list(reference.image.shape),
            "affine": reference.image.affine.tolist(),
            "sform_code": reference.image.sform_code,
            "qform_code": reference.image.qform_code,
            "header": header_text(reference.image.header),
            "orientation": reference.record["orientation"]["axes"],
            "canonical_shape": list(reference.grid.shape),
            "canonical_affine": reference.grid.affine.tolist(),
        },
    }
    return arrays, record


# --- the cache's folders ------------------------------------------------------------------------------


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target`; if another process was faster, its folder stays."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _discard(target: Path) -> None:
    """Take a damaged case away at once, so that no other process sees half of it, then delete it."""
    aside = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.bad")
    try:
        target.rename(aside)
    except FileNotFoundError:
        return  # another process was faster
    shutil.rmtree(aside, ignore_errors=True)


def prepare_site(
    cases: Sequence[Case],
    settings: Prepare,
    cache: Path,
    *,
    progress: Progress | None = None,
    workers: int = 1,
) -> list[PreparedCase]:
    """Prepare a site's cases below ``<cache>/prepared``, in their order.

    Parameters
    ----------
    progress : callable, optional
        Told with a line of text of each case that is not prepared yet (with several workers: of each case).
    workers : int
        Processes that prepare cases side by side; 1: this one. The result does not depend on it.

    Raises
    ------
    DataError
        If a case cannot be prepared, or two cases have one name.
    """
    twice = [key for key, n in Counter(case.key for case in cases).items() if n > 1]
    if twice:
        raise DataError(f"{cases[0].site}: {twice[0]} is there twice; `polysite check` lists the files")
    folder = cache / "prepared"
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            done = [pool.submit(prepare_case, case, settings, folder) for case in cases]
            return [_told(progress, case, future.result) for case, future in zip(cases, done, strict=True)]
    return [prepare_case(case, settings, folder, progress) for case in cases]


def _told(progress: Progress | None, case: Case, work: Callable[[], PreparedCase]) -> PreparedCase:
    if progress:
        progress(f"{case.site}: preparing {case.key}")
    return work()
