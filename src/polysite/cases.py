"""The cases of a run: found, split by subject and prepared; phantoms are made on the way."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from polysite.config import BidsData, PhantomData, Run, Site
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.prepare import prepare_site
from polysite.data.split import split_subjects
from polysite.registry import lookup
from polysite.threads import cores

Progress = Callable[[str], None]


def find_cases(run: Run, progress: Progress | None = None) -> dict[str, list[Case]]:
    """Every site's cases; no image is opened. Phantom hospitals that are not in the cache yet are made."""
    make_phantoms(run, progress)
    return {name: find_site(name, site, run) for name, site in run.sites.items()}


def find_site(name: str, site: Site, run: Run) -> list[Case]:
    """One site's cases."""
    data = (
        BidsData(path=phantom_folder(site.data, run.cache))
        if isinstance(site.data, PhantomData)
        else site.data
    )
    cases: list[Case] = lookup("readers", data.format)(name, data, run.contrasts)
    return cases


def phantom_folder(data: PhantomData, cache: Path) -> Path:
    """Where a phantom hospital lies in the cache: one folder for the same settings and code."""
    from polysite.phantom.consortium import VERSION

    content = json.dumps([data.model_dump(mode="json"), VERSION], sort_keys=True)
    return cache / "phantom" / f"{data.hospital}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def make_phantoms(run: Run, progress: Progress | None = None) -> None:
    """Write the phantom hospitals that the cache lacks, side by side on the processors that there are."""
    wanted = {
        folder: site.data
        for site in run.sites.values()
        if isinstance(site.data, PhantomData)
        and not (folder := phantom_folder(site.data, run.cache)).exists()
    }
    if not wanted:
        return
    for data in wanted.values():
        if progress:
            progress(f"making {data.n_subjects} phantom subjects of {data.hospital}")
    with ProcessPoolExecutor(min(cores(), len(wanted)), mp_context=get_context("spawn")) as pool:
        list(pool.map(_make_phantom, wanted.values(), wanted))


def _make_phantom(data: PhantomData, folder: Path) -> None:
    from polysite.phantom.consortium import write_hospital

    aside = folder.with_name(f".{folder.name}-{os.getpid()}")
    write_hospital(
        aside,
        data.hospital,
        n_subjects=data.n_subjects,
        seed=data.seed,
        contrasts=data.contrasts,
        voxel_mm=data.voxel_mm,
    )
    try:
        aside.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was faster, with the same bytes
            raise
        shutil.rmtree(aside)


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
