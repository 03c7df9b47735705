"""From scans to normalised volumes on one grid, each step recorded, cached on disk.

Slow steps are kept apart (`polysite.data.steps`): other settings redo only what depends on them.

For every contrast on its own: orientation, ringing clipped, mask, percentiles. Then rigid registration to the
reference contrast, resampling to its grid, normalisation. What a contrast's values become depends on its own
file alone, so training and prediction see the same. For segmentation each image is a case of its own (a part),
and its labels come along.
"""

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysite.config.prepare import Preparation, Prepare
from polysite.data.cache import (
    LABELS,
    VERSION,
    PreparedCase,
    header_text,
    open_case,
    sha256_of,
    write_arrays,
)
from polysite.data.case import Case
from polysite.data.labels import labels_of, resample_labels, volumes_ml
from polysite.data.orient import to_canonical
from polysite.data.register import VERSION as REGISTER_VERSION
from polysite.data.register import Registration, register
from polysite.data.resample import Affine, Grid, resample
from polysite.data.single import NOTHING_KEPT, Oriented, oriented
from polysite.data.steps import Steps
from polysite.errors import DataError

Progress = Callable[[str], None]

WORTHWHILE_S = 20.0
"""Work that takes less is not shared: starting processes takes a few seconds."""


def _align(moving: Oriented, reference: Oriented, settings: Preparation, steps: Steps) -> Registration | None:
    """The registration to the reference, if the settings ask for one."""
    mode = settings.registration
    if moving is reference or mode == "never" or (mode == "auto" and moving.grid.same_as(reference.grid)):
        return None
    arguments: dict[str, Any] = {
        "fixed": reference.look(),
        "fixed_affine": reference.grid.affine,
        "mask": reference.mask,
        "moving": moving.look(),
        "moving_affine": moving.grid.affine,
        "kind": settings.transform,
    }
    found = steps.outcome("registration", REGISTER_VERSION, arguments, lambda: register(**arguments).record())
    return Registration.of(found)


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


def decided_for(case: Case, settings: Prepare) -> Preparation:
    """The settings in full: those that are left open are what a part (segmentation) or a whole case needs."""
    return settings.decided("segmentation" if case.part else "synthesis")


def digest_of(case: Case, settings: Preparation) -> str:
    """What a prepared case depends on: the content of its files, the settings, and this code's version.

    Content, not size and time: a copied or touched data set stays prepared, and no edit goes unseen.
    """
    content = {
        "version": VERSION,
        "settings": settings.model_dump(mode="json", exclude={"mask_timeout_s"}),
        "case": [case.site, case.subject, case.session, case.part],
        "files": {contrast: _content_of(path) for contrast, path in case.images.items()},
        "masks": {contrast: _content_of(path) for contrast, path in case.masks.items()}
        if settings.mask == "given"
        else None,
        "labels": _content_of(case.labels[case.part]) if case.part in case.labels else None,
        "frames": case.frames,
        "order": list(case.images),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _content_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def entry_of(case: Case, settings: Prepare, folder: Path) -> Path:
    """The folder of a prepared case, named after the case and what it depends on."""
    return folder / f"{case.key}-{digest_of(case, decided_for(case, settings))[:20]}"


def prepare_case(
    case: Case,
    settings: Prepare,
    folder: Path,
    progress: Progress | None = None,
    *,
    steps: Steps = NOTHING_KEPT,
) -> PreparedCase:
    """Prepare a case, or open it if that was done before.

    Parameters
    ----------
    case : Case
        With one contrast or more, or a part: then its labels are prepared too.
    settings : Prepare
        The run's or site's settings.
    folder : Path
        Holds prepared cases, each in a folder of its own, named after the case and what it depends on.
    progress : callable, optional
        Told with a line of text if the case is not prepared yet.
    steps : Steps
        Where outcomes of slow steps are kept; default: nowhere.

    Raises
    ------
    DataError
        If a file cannot be used, or the disk refuses.
    """
    target = entry_of(case, settings, folder)
    if known := _known(target):
        return known
    if progress:
        progress(f"{case.site}: preparing {case.key}")
    try:
        with _new_folder(target) as temporary:
            arrays, record = _prepared(case, decided_for(case, settings), steps)
            write_arrays(temporary, arrays, record)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written: {error.strerror or error}; check the folder and its space"
        ) from error
    return open_case(target)


def _known(target: Path) -> PreparedCase | None:
    """A case that was prepared before; a damaged one is taken away."""
    if target.exists():
        try:
            return open_case(target)
        except DataError:
            _discard(target)
    return None


def _prepared(
    case: Case, settings: Preparation, kept: Steps
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """A case's arrays and record."""
    name = settings.reference if settings.reference in case.images else next(iter(case.images))
    reference = _read(case, name, settings, kept)
    grid = reference.grid.with_spacing(settings.spacing_mm)
    mask = resample(reference.mask.astype(np.float32), reference.grid.affine, grid, nearest=True)
    seen = np.ascontiguousarray(np.transpose(mask > 0.5, (2, 0, 1)))
    arrays: dict[str, NDArray[Any]] = {}
    steps = {}
    for contrast in case.images:
        moving = reference if contrast == name else _read(case, contrast, settings, kept)
        found = _align(moving, reference, settings, kept)
        arrays[contrast], reach = _bring(moving, grid, found.transform if found else None)
        steps[contrast] = {
            **moving.record,
            "registration": found.record() if found else None,
            "resampled": bool(found) or not moving.grid.same_as(grid),
            "reach": float(reach[seen].mean()) if seen.any() else 0.0,
        }
        seen &= reach
    arrays["mask"] = seen
    labels, about = _labels(case, reference, grid)
    if labels is not None:
        arrays[LABELS] = labels
    record = {
        "version": VERSION,
        "site": case.site,
        "subject": case.subject,
        "session": case.session,
        "part": case.part,
        "key": case.key,
        "contrasts": list(case.images),
        "reference": name,
        "settings": settings.model_dump(mode="json"),
        "inputs": {contrast: str(path) for contrast, path in case.images.items()},
        "frames": dict(case.frames),
        "steps": steps,
        "labels": about,
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


def _read(case: Case, contrast: str, settings: Preparation, kept: Steps) -> Oriented:
    """One contrast on its own, with its mask where masks are given."""
    image = case.image(contrast)
    if settings.mask != "given":
        return oriented(image, settings, kept)
    given = labels_of(case.mask_image(contrast), image) > 0
    if not given.any():
        raise DataError(f"{case.masks[contrast]}: is empty: every voxel is 0; correct the mask")
    return oriented(image, settings, kept, given=given)


def _labels(
    case: Case, image: Oriented, grid: Grid
) -> tuple[NDArray[np.integer[Any]] | None, dict[str, Any] | None]:
    """The labels of a part on the prepared grid, (z, x, y), in the smallest type, and what became of them."""
    label = case.label_image(case.part) if case.part else None
    if label is None:
        return None, None
    stored = to_canonical(labels_of(label, image.image), image.orientation)
    labels = resample_labels(stored, image.grid.affine, grid)
    record = {
        "input": str(label.path),
        "resampled": not image.grid.same_as(grid),
        "native_ml": volumes_ml(stored, image.grid.spacing_mm),
        "prepared_ml": volumes_ml(labels, grid.spacing_mm),
    }
    kind = np.uint8 if stored.max() <= np.iinfo(np.uint8).max else np.uint16
    return np.ascontiguousarray(np.transpose(labels, (2, 0, 1)), dtype=kind), record


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
    """Prepare a site's cases below ``<cache>/prepared``, in their order; slow steps are kept in ``<cache>/steps``.

    Parameters
    ----------
    progress : callable, optional
        Told with a line of text of each case that is not prepared yet.
    workers : int
        Processes that prepare cases side by side, if after the first case the others seem worth the start of
        processes; 1: this one alone. The result does not depend on it.

    Raises
    ------
    DataError
        If a case cannot be prepared, or two cases have one name.
    """
    twice = [key for key, n in Counter(case.key for case in cases).items() if n > 1]
    if twice:
        raise DataError(f"{cases[0].site}: {twice[0]} is there twice; `polysite check` lists the files")
    folder, steps = cache / "prepared", Steps(cache / "steps")
    known = [_known(entry_of(case, settings, folder)) for case in cases]
    missing = [case for case, there in zip(cases, known, strict=True) if there is None]
    if workers > 1 and len(missing) > 2:
        begin = time.perf_counter()
        prepare_case(missing[0], settings, folder, progress, steps=steps)
        if (time.perf_counter() - begin) * (len(missing) - 1) >= WORTHWHILE_S:
            _side_by_side(missing[1:], settings, cache, progress, min(workers, len(missing) - 1))
    return [
        there or prepare_case(case, settings, folder, progress, steps=steps)
        for case, there in zip(cases, known, strict=True)
    ]


def _side_by_side(
    cases: Sequence[Case], settings: Prepare, cache: Path, progress: Progress | None, workers: int
) -> None:
    # Ctrl-C ends the processes at once and without a word
    with ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    ) as pool:
        steps = Steps(cache / "steps")
        begun = [pool.submit(prepare_case, case, settings, cache / "prepared", steps=steps) for case in cases]
        try:
            for case, work in zip(cases, begun, strict=True):
                if progress:
                    progress(f"{case.site}: preparing {case.key}")
                work.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"{case.site}: preparing was ended from outside; if memory ran out, use a larger spacing_mm"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
