"""Every trouble of every case, found before anything is trained.

Volumes are read one at a time and forgotten; what is kept of each is its grid and a digest.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polysite.config.prepare import Prepare
from polysite.config.run import Run
from polysite.config.site import Site, parse_task
from polysite.data.case import Case
from polysite.data.check_labels import check_labels, unseen_classes, without_labels
from polysite.data.finding import Finding, Level, Seen, canonical_grid, digest_of_values
from polysite.data.single import remedy_for
from polysite.data.split import split_subjects
from polysite.errors import DataError
from polysite.image import Image

Progress = Callable[[str], None]


def check_run(
    run: Run,
    found: Mapping[str, Sequence[Case]],
    progress: Progress | None = None,
    seen: list[Seen] | None = None,
) -> list[Finding]:
    """All findings of a run, site by site, then those that concern several sites and the splits.

    Parameters
    ----------
    found : mapping of str to sequence of Case
        Every site's cases, as the readers gave them.
    progress : callable, optional
        Told of each case with a line of text.
    seen : list, optional
        What was read is added to it.
    """
    findings: list[Finding] = []
    seen = [] if seen is None else seen
    for name, cases in found.items():
        site = run.sites[name]
        findings += check_site(name, cases, site, site.prepare or run.prepare, progress=progress, seen=seen)
    return [*findings, *_across_sites(found, seen), *_splits(run, found)]


def check_found(run: Run, found: Mapping[str, Sequence[Case]]) -> list[Finding]:
    """The findings that need no image: what would stop or spoil a training that is about to begin."""
    findings: list[Finding] = []
    for name, cases in found.items():
        findings += _unopened(name, cases, run.sites[name])
    return [*findings, *_across_sites(found, ()), *_splits(run, found)]


def _splits(run: Run, found: Mapping[str, Sequence[Case]]) -> Iterator[Finding]:
    """What is wrong with the splits."""
    for site, cases in found.items():
        try:
            split_subjects({site: sorted({case.subject for case in cases})}, run.split, run.seed)
        except DataError as error:
            yield Finding("error", site, "", "", str(error))


def check_site(
    name: str,
    cases: Sequence[Case],
    site: Site,
    settings: Prepare,
    *,
    progress: Progress | None = None,
    seen: list[Seen] | None = None,
) -> list[Finding]:
    """All findings of one site.

    Parameters
    ----------
    site : Site
        What it wants to learn: tasks that need pairs, or labels.
    settings : Prepare
        The run's or site's.
    seen : list, optional
        What was read is added to it, for comparison with other sites.
    """
    findings = _unopened(name, cases, site)
    contents: dict[str, Seen] = {}
    values: set[int] = set()
    for case in cases:
        if progress:
            progress(f"{name}: checking {case.key}")
        findings += [Finding("note", name, case.key, "", note) for note in case.notes]
        volumes: list[Seen] = []
        for contrast in case.images:
            image, volume, troubles = _check_image(case, contrast)
            findings += troubles
            if volume is None or image is None:
                continue
            volumes.append(volume)
            if site.labels:
                labelled, troubles = check_labels(case, contrast, image, site, values)
                findings += troubles
                volumes += [labelled] if labelled else []
        for volume in volumes:
            other = contents.setdefault(volume.digest, volume)
            if other is not volume and not volume.serves_too(other):
                message = f"has the same values as {other.what} of {other.case.key}; one of them is wrong"
                findings.append(Finding("error", name, case.key, volume.what, message))
        if not site.labels:
            findings += [*_missing(case, site), *_grids(case, volumes, settings)]
        if seen is not None:
            seen += volumes
    return [*findings, *unseen_classes(name, site, values)]


# --- one site -----------------------------------------------------------------------------------------


def _twice(site: str, cases: Sequence[Case]) -> Iterator[Finding]:
    by_key: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_key[case.key].append(case)
    for key, same in by_key.items():
        if len(same) > 1:
            files = "; ".join(", ".join(str(path) for path in case.images.values()) for case in same)
            yield Finding("error", site, key, "", f"is there {len(same)} times: {files}; keep one")


def _unopened(name: str, cases: Sequence[Case], site: Site) -> list[Finding]:
    """What can be said of a site without opening an image."""
    by_goal = without_labels(name, cases) if site.labels else _tasks_without_pairs(name, cases, site)
    return [*_twice(name, cases), *by_goal]


def _pairs(site: Site) -> list[tuple[str, str]]:
    return [parse_task(text) for text in site.tasks]


def _tasks_without_pairs(name: str, cases: Sequence[Case], site: Site) -> Iterator[Finding]:
    contrasts = sorted({contrast for case in cases for contrast in case.images})
    if len(contrasts) == 1:
        message = f"has {contrasts[0]} only; a task needs two contrasts of the same subject"
        yield Finding("error", name, "", contrasts[0], message)
    for source, target in _pairs(site):
        if not any({source, target} <= set(case.images) for case in cases):
            lacking = [contrast for contrast in (source, target) if contrast not in contrasts]
            why = f"no subject has {' or '.join(lacking)}" if lacking else "no subject has both"
            yield Finding(
                "error", name, "", "", f"task {source}->{target}: {why}; add the files or remove the task"
            )


def _missing(case: Case, site: Site) -> Iterator[Finding]:
    tasks = _pairs(site)
    for contrast in dict.fromkeys(contrast for task in tasks for contrast in task):
        if contrast not in case.images:
            lost = ", ".join(
                f"{source}->{target}" for source, target in tasks if contrast in (source, target)
            )
            yield Finding("error", case.site, case.key, contrast, f"is missing; {lost} needs it")


def _check_image(case: Case, contrast: str) -> tuple[Image | None, Seen | None, list[Finding]]:
    """An image, what to remember of it, and trouble inside it; None if it cannot be read as one volume."""

    def finding(level: Level, message: str) -> Finding:
        return Finding(level, case.site, case.key, contrast, message)

    path = case.images[contrast]
    try:
        image = case.image(contrast)
    except DataError as error:
        return None, None, [finding("error", str(error))]
    if image.array.ndim < 3 or any(n > 1 for n in image.shape[3:]):
        shape = " × ".join(str(n) for n in image.shape)
        message = f"{path}: is {image.array.ndim}-D ({shape}) where one 3-D volume is meant; {remedy_for(image.array)}"
        return None, None, [finding("error", message)]
    findings = [finding("warning", f"{path}: {note}") for note in image.notes]
    findings += [finding(level, f"{path}: {what}") for level, what in _values(image.array)]
    return image, Seen(case, contrast, canonical_grid(image), digest_of_values(image.array)), findings


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


def _grids(case: Case, volumes: Sequence[Seen], settings: Prepare) -> Iterator[Finding]:
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


def _difference(volume: Seen, reference: Seen) -> str:
    if volume.grid.shape != reference.grid.shape:
        own, other = ("×".join(str(n) for n in seen.grid.shape) for seen in (volume, reference))
        return f"{volume.contrast} is {own} but {reference.contrast} is {other}"
    apart = np.linalg.norm(volume.grid.corners_mm() - reference.grid.corners_mm(), axis=1).max()
    return (
        f"the affine of {volume.contrast} differs from that of {reference.contrast} by up to {apart:.2g} mm"
    )


# --- between sites ------------------------------------------------------------------------------------


def _across_sites(found: Mapping[str, Sequence[Case]], seen: Sequence[Seen]) -> Iterator[Finding]:
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
    images: dict[str, Seen] = {}
    for volume in seen:
        other = images.setdefault(volume.digest, volume)
        case = volume.case
        if other.case.site != case.site and (case.site, case.subject) not in told:
            message = f"has the same values as {other.what} of {other.case.key} at {other.case.site!r}"
            yield Finding("error", case.site, case.key, volume.what, message)
