"""Cases from a BIDS folder: ``sub-*/[ses-*/]anat/*_<suffix>.nii.gz``."""

import re
from collections.abc import Sequence
from pathlib import Path

from polysite.config import BidsData
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
    *pairs, suffix = ending.split("_")
    wanted = {key: value for key, _, value in (pair.partition("-") for pair in pairs)}
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


def read_cases(site_name: str, data: BidsData, contrasts: Sequence[str]) -> list[Case]:
    """The cases of a BIDS folder that have at least one of the contrasts.

    Parameters
    ----------
    site_name : str
        The site they belong to.
    data : BidsData
        Folder, ``where`` filter, and endings that differ from the contrast's name.
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
            if images:
                cases.append(Case(site_name, subject, session, images, root, notes))
    if not cases:
        looked_for = ", ".join(f"*_{ending}.nii.gz" for ending in endings.values())
        raise DataError(
            f"{root}: nothing found for site {site_name!r}; looked for {looked_for} in sub-*/anat and "
            f"sub-*/ses-*/anat{f' of {len(kept)} subjects' if kept is not None else ''}"
        )
    return cases
