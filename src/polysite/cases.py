"""The cases of a run: found, split by subject and prepared; phantoms are made on the way."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from polysite.config import BidsData, PhantomData, Run, Site
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.prepare import prepare_site
from polysite.data.split import split_subjects
from polysite.registry import lookup

Progress = Callable[[str], None]


def find_cases(run: Run, progress: Progress | None = None) -> dict[str, list[Case]]:
    """Every site's cases; no image is opened."""
    return {name: find_site(name, site, run, progress) for name, site in run.sites.items()}


def find_site(name: str, site: Site, run: Run, progress: Progress | None = None) -> list[Case]:
    """One site's cases, those of a phantom hospital generated into the cache first."""
    data = site.data
    if isinstance(data, PhantomData):
        data = BidsData(path=phantom_folder(data, run.cache, progress))
    cases: list[Case] = lookup("readers", data.format)(name, data, run.contrasts)
    return cases


def phantom_folder(data: PhantomData, cache: Path, progress: Progress | None = None) -> Path:
    """The BIDS folder of a phantom hospital in the cache, written once for the same settings and code."""
    from polysite.phantom import consortium

    content = json.dumps([data.model_dump(mode="json"), consortium.VERSION], sort_keys=True)
    folder = cache / "phantom" / f"{data.hospital}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if not folder.exists():
        if progress:
            progress(f"making {data.n_subjects} phantom subjects of {data.hospital}")
        consortium.write_hospital(
            folder,
            data.hospital,
            n_subjects=data.n_subjects,
            seed=data.seed,
            contrasts=data.contrasts,
            voxel_mm=data.voxel_mm,
        )
    return folder


def split_cases(run: Run, found: Mapping[str, list[Case]]) -> dict[str, dict[str, list[str]]]:
    """Subjects of every site and split."""
    subjects = {name: sorted({case.subject for case in cases}) for name, cases in found.items()}
    return split_subjects(subjects, run.split, run.seed)


def prepare_cases(
    run: Run,
    found: Mapping[str, list[Case]],
    splits: Mapping[str, Mapping[str, list[str]]],
    progress: Progress | None = None,
) -> dict[str, dict[str, list[PreparedCase]]]:
    """Site -> split -> prepared cases, from the cache where they are there already."""
    prepared: dict[str, dict[str, list[PreparedCase]]] = {}
    for name, cases in found.items():
        settings = run.sites[name].prepare or run.prepare
        done = prepare_site(cases, settings, run.cache, progress=progress)
        prepared[name] = {
            split: [case for case in done if case.subject in subjects]
            for split, subjects in splits[name].items()
        }
    return prepared
