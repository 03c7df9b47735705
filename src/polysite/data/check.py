"""Every trouble of every case, found before anything is trained.

Volumes are read one at a time and forgotten; what is kept of each is its grid and a digest.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polysite.config import Prepare, Run, parse_task
from polysite.data.case import Case
from polysite.data.orient import canonical_affine, orientation_of
from polysite.data.resample import Grid
from polysite.data.split import split_subjects
from polysite.errors import DataError
from polysite.image import Image, read_image

Level = Literal["error", "warning", "note"]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """One trouble.

    Attributes
    ----------
    level : str
        ``error``: preparing or training would fail or be wrong; ``warning``: look at it; ``note``: handled.
    site, case, contrast, message : str
        Where, and what; case and contrast are empty if it concerns more than one.
    """

    level: Level
    site: str
    case: str
    contrast: str
    message: str


@dataclass(frozen=True)
class _Seen:
    """What is kept of a volume that was read."""

    case: Case
    contrast: str
    grid: Grid
    digest: str


def check_run(
    run: Run, found: Mapping[str, Sequence[Case]], progress: Progress | None = None
) -> list[Finding]:
    """All findings of a run, site by site, then those that concern several sites and the splits.

    Parameters
    ----------
    found : mapping of str to sequence of Case
        Every site's cases, as the readers gave them.
    progress : callable, optional
        Told of each case with a line of text.
    """
    findings: list[Finding] = []
    seen: list[_Seen] = []
    for site, cases in found.items():
        tasks = [parse_task(text) for text in run.sites[site].tasks]
        settings = run.sites[site].prepare or run.prepare
        findings += check_site(site, cases, tasks, settings, progress=progress, seen=seen)
    return [*findings, *_across_sites(found, seen), *_splits(run, found)]


def check_found(run: Run, found: Mapping[str, Sequence[Case]]) -> list[Finding]:
    """The findings that need no image: what would stop or spoil a training that is about to begin."""
    findings: list[Finding] = []
    for site, cases in found.items():
        tasks = [parse_task(text) for text in run.sites[site].tasks]
        findings += [*_twice(site, cases), *_tasks_without_pairs(site, cases, tasks)]
    return [*findings, *_across_sites(found, ()), *_splits(run, found)]


def _splits(run: Run, found: Mapping[str, Sequence[Case]]) -> Iterator[Finding]:
    """What is wrong with the splits."""
    for site, cases in found.items():
        try:
            split_subjects({site: sorted({case.subject for case in cases})}, run.split, run.seed)
        except DataError as error:
            yield Finding("error", site, "", "", str(error))


def check_site(
    site: str,
    cases: Sequence[Case],
    tasks: Sequence[tuple[str, str]],
    settings: Prepare,
    *,
    progress: Progress | None = None,
    seen: list[_Seen] | None = None,
) -> list[Finding]:
    """All findings of one site.

    Parameters
    ----------
    tasks : sequence of (str, str)
        Source and target contrasts that the site trains.
    seen : list, optional
        What was read is added to it, for comparison with other sites.
    """
    findings = [*_twice(site, cases), *_tasks_without_pairs(site, cases, tasks)]
    contents: dict[str, _Seen] = {}
    for case in cases:
        if progress:
            progress(f"{site}: checking {case.key}")
        findings += [Finding("note", site, case.key, "", note) for note in case.notes]
        findings += _missing(case, tasks)
        volumes: list[_Seen] = []
        for contrast, path in case.images.items():
            troubles, volume = _check_file(case, contrast, path)
            findings += troubles
            if volume is None:
                continue
            volumes.append(volume)
            other = contents.setdefault(volume.digest, volume)
            if other is not volume:
                message = f"has the same values as {other.contrast} of {other.case.key}; one of them is wrong"
                findings.append(Finding("error", site, case.key, contrast, message))
        findings += _grids(case, volumes, settings)
        if seen is not None:
            seen += volumes
    return findings


# --- one site -----------------------------------------------------------------------------------------


def _twice(site: str, cases: Sequence[Case]) -> Iterator[Finding]:
    by_key: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_key[case.key].append(case)
    for key, same in by_key.items():
        if len(same) > 1:
            files = "; ".join(", ".join(str(path) for path in case.images.values()) for case in same)
            yield Finding("error", site, key, "", f"is there {len(same)} times: {files}; keep one")


def _tasks_without_pairs(
    site: str, cases: Sequence[Case], tasks: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    contrasts = sorted({contrast for case in cases for contrast in case.images})
    if len(contrasts) == 1:
        message = f"has {contrasts[0]} only; a task needs two contrasts of the same subject"
        yield Finding("error", site, "", contrasts[0], message)
    for source, target in tasks:
        if not any({source, target} <= set(case.images) for case in cases):
            lacking = [name for name in (source, target) if name not in contrasts]
            why = f"no subject has {' or '.join(lacking)}" if lacking else "no subject has both"
            yield Finding(
                "error", site, "", "", f"task {source}->{target}: {why}; add the files or remove the task"
            )


def _missing(case: Case, tasks: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    needed = {contrast: None for task in tasks for contrast in task}
    for contrast in needed:
        if contrast not in case.images:
            lost = ", ".join(
                f"{source}->{target}" for source, target in tasks if contrast in (source, target)
            )
            yield Finding("error", case.site, case.key, contrast, f"is missing; {lost} needs it")


def _check_file(case: Case, contrast: str, path: Path) -> tuple[list[Finding], _Seen | None]:
    """Trouble inside one file; and what to remember of it if it can be read as one volume."""

    def finding(level: Level, message: str) -> Finding:
        return Finding(level, case.site, case.key, contrast, message)

    try:
        image = read_image(path, contrast)
    except DataError as error:
        return [finding("error", str(error))], None
    if image.array.ndim < 3 or any(n > 1 for n in image.shape[3:]):
        shape = " × ".join(str(n) for n in image.shape)
        message = f"{path}: is {image.array.ndim}-D ({shape}) where one 3-D volume is meant"
        return [finding("error", message)], None
    findings = [finding("warning", f"{path}: {note}") for note in image.notes]
    findings += [finding(level, f"{path}: {what}") for level, what in _values(image.array)]
    return findings, _Seen(case, contrast, _canonical_grid(image), _digest(image.array))


def _values(array: NDArray[np.float32]) -> Iterator[tuple[Level, str]]:
    finite = np.isfinite(array)
    n_bad = int(array.size - finite.sum())
    if n_bad:
        yield "error", f"has {n_bad} NaN or infinite values"
        array = array[finite]
    if array.size and array.min() == array.max():
        yield "error", f"is constant: every value is {array.min():g}"
    elif array.size and array.min() < 0:
        share = float((array < 0).sum() / np.count_nonzero(array))
        yield "warning", f"has negative values down to {array.min():.4g} ({share:.2%} of those other than 0)"


def _digest(array: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _canonical_grid(image: Image) -> Grid:
    """The image's grid in canonical axes, so that another order of storage is no difference."""
    orientation = orientation_of(image.affine)
    order = np.argsort(orientation[:, 0])
    x, y, z = (int(image.shape[axis]) for axis in order)
    return Grid((x, y, z), canonical_affine(image.affine, orientation, image.shape))


def _grids(case: Case, volumes: Sequence[_Seen], settings: Prepare) -> Iterator[Finding]:
    """Differences between the grids of a case's contrasts."""
    if not volumes:
        return
    reference = next((seen for seen in volumes if seen.contrast == settings.reference), volumes[0])
    for volume in volumes:
        if volume.grid.same_as(reference.grid):
            continue
        what = _difference(volume, reference)
        if settings.registration == "never":
            message = f"{what}; run prepare with registration: auto"
            yield Finding("error", case.site, case.key, volume.contrast, message)
        else:
            yield Finding("note", case.site, case.key, volume.contrast, f"{what}; prepare will register it")


def _difference(volume: _Seen, reference: _Seen) -> str:
    if volume.grid.shape != reference.grid.shape:
        own, other = ("×".join(str(n) for n in seen.grid.shape) for seen in (volume, reference))
        return f"{volume.contrast} is {own} but {reference.contrast} is {other}"
    apart = np.linalg.norm(volume.grid.corners_mm() - reference.grid.corners_mm(), axis=1).max()
    return (
        f"the affine of {volume.contrast} differs from that of {reference.contrast} by up to {apart:.2g} mm"
    )


# --- between sites ------------------------------------------------------------------------------------


def _across_sites(found: Mapping[str, Sequence[Case]], seen: Sequence[_Seen]) -> Iterator[Finding]:
    """The same person at two sites: the same label under the same folder, or the same image."""
    people: dict[tuple[Path, str], str] = {}
    told: set[tuple[str, str]] = set()
    for site, cases in found.items():
        for case in cases:
            if case.root is None:
                continue
            first = people.setdefault((case.root.resolve(), case.subject), site)
            if first != site and (site, case.subject) not in told:
                told.add((site, case.subject))
                message = f"subject {case.subject} of {case.root} is at {first!r} too; use `where` to tell them apart"
                yield Finding("error", site, case.key, "", message)
    images: dict[str, _Seen] = {}
    for volume in seen:
        other = images.setdefault(volume.digest, volume)
        case = volume.case
        if other.case.site != case.site and (case.site, case.subject) not in told:
            message = f"has the same values as {other.contrast} of {other.case.key} at {other.case.site!r}"
            yield Finding("error", case.site, case.key, volume.contrast, message)
