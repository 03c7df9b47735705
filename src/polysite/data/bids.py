"""Cases from a BIDS folder: ``sub-*/[ses-*/]anat/*_<suffix>.nii.gz``, label images from a derivative of it."""

import re
from collections.abc import Sequence
from pathlib import Path

from polysite.config.base import expand
from polysite.config.sources import BidsData
from polysite.data.case import Case, label_of
from polysite.data.participants import subjects_where
from polysite.errors import DataError

Entities = dict[str, str]


def entities_of(name: str) -> tuple[Entities, str] | None:
    """Entities and suffix of a BIDS file name, or None if it is not one.

    >>> entities_of("sub-01_ce-gadolinium_T1w.nii.gz")
    ({'sub': '01', 'ce': 'gadolinium'}, 'T1w')
    """
    stem = re.sub(r"\.nii(\.gz)?$", "", name)
    *pairs, suffix = stem.split("_")
    if stem == name or any("-" not in pair for pair in pairs) or not re.fullmatch(r"[A-Za-z0-9]+", suffix):
        return None
    return {key: value for key, _, value in (pair.partition("-") for pair in pairs)}, suffix


def wanted_of(ending: str) -> tuple[Entities, str]:
    """Entities and suffix of an ending.

    >>> wanted_of("ce-gadolinium_T1w")
    ({'ce': 'gadolinium'}, 'T1w')
    """
    *pairs, suffix = ending.split("_")
    return {key: value for key, _, value in (pair.partition("-") for pair in pairs)}, suffix


def plainness(entities: Entities, wanted: Entities) -> tuple[int, int, str]:
    """Sorts files of one contrast: fewest entities that were not asked for, then the lowest run."""
    run = entities.get("run", "0")
    extra = {key: value for key, value in entities.items() if key not in {"sub", "ses", "run", *wanted}}
    return len(extra), int(run) if run.isdigit() else 0, str(sorted(extra.items()))


def pick(files: Sequence[Path], ending: str) -> tuple[Path | None, tuple[str, ...]]:
    """The plain file of a contrast among a folder's files, and notes on what was passed over.

    A file with a contrast agent (``ce-``) is taken only if the ending asks for it: it shows another contrast.

    Parameters
    ----------
    files : sequence of Path
        Files with BIDS names.
    ending : str
        ``"T1w"``, or with the entities that the file must have: ``"ce-gadolinium_T1w"``.
    """
    wanted, suffix = wanted_of(ending)
    fit: list[tuple[Entities, Path]] = []
    enhanced: list[tuple[Entities, Path]] = []
    for path in files:
        parsed = entities_of(path.name)
        if parsed is None or parsed[1] != suffix or not wanted.items() <= parsed[0].items():
            continue
        (enhanced if "ce" in parsed[0] and "ce" not in wanted else fit).append((parsed[0], path))
    fit.sort(key=lambda item: (*plainness(item[0], wanted), item[1].name))
    if not fit:
        agents = tuple(
            f"{path.name} was passed over: it shows a contrast agent; name it in `contrasts` to use it"
            for _, path in enhanced
        )
        return None, agents
    chosen = fit[0][1]
    others = sorted(path.name for _, path in fit[1:] + enhanced)
    return chosen, tuple(f"{name} was passed over for {chosen.name}" for name in others)


def label_file(image: Path, folder: Path, ending: str) -> tuple[Path | None, tuple[str, ...]]:
    """The label image of an image in a derivative's folder, and notes on others that would do.

    A label image has the entities of its image and those of the ending; it may have ``desc-`` besides, which
    says how it was made. Of several the one without is taken, or else the first by name.
    """
    wanted, suffix = wanted_of(ending)
    parsed = entities_of(image.name)
    fit = []
    for path in sorted(folder.glob("sub-*")) if parsed else ():
        own = entities_of(path.name)
        if own and parsed and own[1] == suffix and wanted.items() <= own[0].items():
            free = {"desc", *wanted}
            rest = [{key: v for key, v in names.items() if key not in free} for names in (own[0], parsed[0])]
            if rest[0] == rest[1]:
                fit.append((len(own[0]), path.name, path))
    fit.sort()
    others = tuple(f"{name} was passed over for {fit[0][1]}" for _, name, _ in fit[1:])
    return (fit[0][2] if fit else None), others


def read_cases(site_name: str, data: BidsData, contrasts: Sequence[str]) -> list[Case]:
    """The cases of a BIDS folder that have at least one of the contrasts.

    Parameters
    ----------
    site_name : str
        The site they belong to.
    data : BidsData
        Folder, ``where`` filter, endings that differ from the contrast's name, and where label images lie.
    contrasts : sequence of str
        The run's contrasts.

    Raises
    ------
    DataError
        If the folder is missing or nothing is found in it.
    """
    root = data.folder()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; correct sites.{site_name}.data.path")
    derivative = None if data.label_images is None else root / expand(data.label_images)
    if derivative and not derivative.is_dir():
        raise DataError(f"{derivative}: no such folder; correct sites.{site_name}.data.label_images")
    kept = subjects_where(root, data.where)
    endings = {contrast: data.contrasts.get(contrast, contrast) for contrast in contrasts}
    cases = []
    for folder in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        subject = label_of(folder.name)
        if kept is not None and subject not in kept:
            continue
        visits: list[tuple[str | None, Path]] = [(None, folder / "anat")]
        visits += [(label_of(path.name, "ses"), path / "anat") for path in sorted(folder.glob("ses-*"))]
        for session, anat in visits:
            files = sorted(path for path in anat.glob("sub-*") if path.is_file())
            picks = {contrast: pick(files, ending) for contrast, ending in endings.items()}
            images = {contrast: path for contrast, (path, _) in picks.items() if path is not None}
            notes = tuple(note for _, passed in picks.values() for note in passed)
            labels = {}
            for contrast, path in images.items():
                if derivative is None:
                    break
                label, passed = label_file(path, derivative / anat.relative_to(root), data.label_ending)
                notes += passed
                if label:
                    labels[contrast] = label
            if images:
                cases.append(Case(site_name, subject, session, images, root, notes, labels))
    if not cases:
        looked_for = ", ".join(f"*_{ending}.nii.gz" for ending in endings.values())
        raise DataError(
            f"{root}: nothing found for site {site_name!r}; looked for {looked_for} in sub-*/anat and "
            f"sub-*/ses-*/anat{f' of {len(kept)} subjects' if kept is not None else ''}"
        )
    return cases
