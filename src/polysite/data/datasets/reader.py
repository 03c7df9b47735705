"""Cases from a public data set that is known by name."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polysite.config.run import Run
from polysite.config.sources import DatasetData
from polysite.data.case import Case, label_of
from polysite.data.datasets.dataset import SITE, Dataset, Found, Visit
from polysite.errors import DataError
from polysite.registry import lookup

TOLD = 20
"""Values of a key that an error lists at most."""


def dataset_named(name: str) -> Dataset:
    """A registered data set.

    Raises
    ------
    ConfigError
        If there is none of this name; the message lists the choices.
    """
    dataset: Dataset = lookup("datasets", name)
    return dataset


def datasets_of(run: Run) -> dict[str, Dataset]:
    """The data sets that a run names, each once: whose terms hold for it."""
    names = {site.data.format for site in run.sites.values() if isinstance(site.data, DatasetData)}
    return {name: dataset_named(name) for name in sorted(names)}


def require_pairs(site_name: str, data: DatasetData) -> None:
    """Refuse a synthesis task where no two images of a data set are known to be of one person.

    Raises
    ------
    DataError
        With the reason.
    """
    dataset = dataset_named(data.format)
    if dataset.unpaired:
        raise DataError(
            f"sites.{site_name}: {dataset.title} has no pairs of contrasts to learn a task from: {dataset.unpaired}; "
            "remove the site, or use its model on these files by `polysite predict`"
        )


def read_cases(site_name: str, data: DatasetData, contrasts: Sequence[str]) -> list[Case]:
    """The visits of a data set that have at least one of the contrasts, with their label images.

    Raises
    ------
    DataError
        If the folder is missing, `where` names a key that the data set does not have, or nothing is left.
    """
    dataset, root = dataset_named(data.format), data.folder()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; correct sites.{site_name}.data.path")
    found = dataset.find(root)
    unknown = [key for key in data.where if key not in found.keys]
    if found.visits and unknown:
        raise DataError(
            f"sites.{site_name}.data.where: unknown key {unknown[0]!r}; {dataset.name} has: {', '.join(found.keys)}"
        )
    words = {contrast: data.contrasts.get(contrast, contrast) for contrast in contrasts}
    cases = []
    for visit in found.visits:
        if all(visit.value(key) == value for key, value in data.where.items()):
            case = _case(site_name, data, words, visit)
            if case.images and set(data.require) <= set(case.images):
                cases.append(case)
    if not cases:
        raise DataError(_nothing(site_name, data, dataset, found))
    cases.sort(key=lambda case: case.key)
    if found.skipped:
        note = f"{len(found.skipped)} things in {root} were skipped; {_command(dataset, root)} lists them"
        cases[0] = replace(cases[0], notes=(note, *cases[0].notes))
    return cases


def _case(site_name: str, data: DatasetData, words: dict[str, str], visit: Visit) -> Case:
    """A visit by the run's names of contrasts."""
    images = {name: visit.images[word] for name, word in words.items() if word in visit.images}
    return Case(
        site_name,
        label_of(visit.subject),
        label_of(visit.session, "ses") if visit.session else None,
        images,
        data.folder(),
        visit.notes,
        {name: visit.labels[words[name]] for name in images if words[name] in visit.labels},
        {name: visit.frames[words[name]] for name in images if words[name] in visit.frames},
    )


def _nothing(site_name: str, data: DatasetData, dataset: Dataset, found: Found) -> str:
    """Why there is no case, with what there is instead."""
    root = data.folder()
    see = f"; {_command(dataset, root)} shows what is there"
    if not found.visits:
        expected = dataset.layout.split()[0]
        return f"{root}: nothing of {dataset.name} found for site {site_name!r}; expected {expected}{see}"
    wanted = " and ".join(f"{key}={value}" for key, value in data.where.items())
    if data.require:
        wanted += f"{' and ' if wanted else ''}all of {', '.join(data.require)}"
    there = "".join(f"; {key} is one of: {_values(found, key)}" for key in data.where or (SITE,))
    return (
        f"{root}: nothing found for site {site_name!r} among {len(found.visits)} visits of {dataset.name}"
        f"{f' with {wanted}' if wanted else ''}; it offers {', '.join(dataset.contrasts)}{there}{see}"
    )


def _command(dataset: Dataset, root: Path) -> str:
    return f"`polysite datasets {dataset.name} {shlex.quote(str(root))}`"


def _values(found: Found, key: str) -> str:
    """The values of a key, with how often each is there."""
    counts = Counter(visit.value(key) for visit in found.visits)
    listed = [f"{value} ({n})" for value, n in counts.most_common() if value]
    return ", ".join(listed[:TOLD]) + (", …" if len(listed) > TOLD else "")
