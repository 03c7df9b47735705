"""The cases of a run: found, split by subject and prepared; phantoms are made on the way."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from polysite.config.run import Run
from polysite.config.site import Site, parse_task
from polysite.config.sources import BidsData, DatasetData, DicomData, ElsewhereData, PhantomData
from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.data.check import check_found
from polysite.data.check_labels import unseen_classes
from polysite.data.datasets.reader import require_pairs
from polysite.data.given_masks import root_of, with_masks
from polysite.data.prepare import prepare_site
from polysite.data.split import split_subjects
from polysite.errors import ConfigError, DataError
from polysite.registry import lookup
from polysite.threads import cores

Progress = Callable[[str], None]


def find_cases(run: Run, progress: Progress | None = None) -> dict[str, list[Case]]:
    """The cases of every site whose scans are here; no image is opened.

    Phantom hospitals that are not in the cache yet are made.
    """
    make_phantoms(run, progress)
    return {name: find_site(name, site, run, progress) for name, site in run.here.items()}


def find_site(name: str, site: Site, run: Run, progress: Progress | None = None) -> list[Case]:
    """One site's cases."""
    data, contrasts = site.data, run.contrasts
    if isinstance(data, ElsewhereData):
        raise ConfigError(f"sites.{name}.data: lies elsewhere; only the hospital's own machine can read it")
    if isinstance(data, DicomData):
        return _find_dicom(name, data, run, progress)
    if isinstance(data, PhantomData):
        contrasts = _images_of(name, data, run)
        data = phantom_as_bids(data, run.cache_folder())
    reader = "dataset" if isinstance(data, DatasetData) else data.format
    try:
        if isinstance(data, DatasetData) and site.tasks:
            require_pairs(name, data)
        cases: list[Case] = lookup("readers", reader)(name, data, contrasts)
        cases = with_masks(cases, root_of(data), data.masks)
    except ConfigError as error:
        raise ConfigError(f"sites.{name}.data.path: {error}") from error
    return cases


def _find_dicom(name: str, data: DicomData, run: Run, progress: Progress | None) -> list[Case]:
    """The cases of a DICOM folder, converted into the cache where that was not done yet."""
    from polysite.data.dicom.convert import convert

    try:
        converted = convert(
            data, run.cache_folder(), None if progress is None else lambda text: progress(f"{name}: {text}")
        )
    except ConfigError as error:
        raise ConfigError(f"sites.{name}.data: {error}") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    contrasts = [contrast for contrast in run.contrasts if contrast in data.contrasts]
    cases: list[Case] = lookup("readers", "bids")(
        name, BidsData(path=converted.folder, contrasts=converted.endings), contrasts
    )
    general = converted.notes.get("", ())
    return [
        replace(
            case,
            root=converted.people,
            notes=(*case.notes, *converted.notes.get(case.key, ()), *(general if number == 0 else ())),
        )
        for number, case in enumerate(cases)
    ]


def phantom_as_bids(data: PhantomData, cache: Path) -> BidsData:
    """A phantom hospital in the cache as the BIDS folder that it is."""
    from polysite.phantom.kinds import KINDS

    return BidsData(
        path=phantom_folder(data, cache),
        contrasts=dict(KINDS[data.kind].endings),
        label_images=Path("derivatives/truth"),
    )


def _images_of(site: str, data: PhantomData, run: Run) -> tuple[str, ...]:
    """The run's contrasts that a phantom can have.

    Raises
    ------
    ConfigError
        If it has none of them.
    """
    from polysite.phantom.kinds import KINDS

    names = KINDS[data.kind].endings
    images = tuple(name for name in run.contrasts if not names or name in names)
    if not images:
        raise ConfigError(
            f"sites.{site}.data: images of the {data.kind} phantom are called {', '.join(names)}; "
            "name one in `contrasts`"
        )
    return images


def phantom_folder(data: PhantomData, cache: Path) -> Path:
    """Where a phantom hospital lies in the cache: one folder for the same settings and code."""
    from polysite.phantom.kinds import KINDS

    content = json.dumps([data.model_dump(mode="json"), KINDS[data.kind].version], sort_keys=True)
    return cache / "phantom" / f"{data.hospital}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def make_phantoms(run: Run, progress: Progress | None = None) -> None:
    """Write the phantom hospitals that the cache lacks, side by side on the processors that there are."""
    wanted = {}
    for name, site in run.sites.items():
        if isinstance(site.data, PhantomData):
            _require_hospital(name, site.data)
            _images_of(name, site.data, run)
            folder = phantom_folder(site.data, run.cache_folder())
            if not folder.exists() and folder not in wanted:
                wanted[folder] = site.data
                if progress:
                    progress(
                        f"{name}: making {site.data.n_subjects} phantom subjects of {site.data.hospital}"
                    )
    if not wanted:
        return
    asides = [folder.with_name(f".{folder.name}-{os.getpid()}") for folder in wanted]
    try:
        # Ctrl-C ends the processes at once and without a word; what they leave is removed here
        with ProcessPoolExecutor(
            min(cores(), len(wanted)),
            mp_context=get_context("spawn"),
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_DFL),
        ) as pool:
            list(pool.map(_make_phantom, wanted.values(), wanted, asides))
    except BrokenProcessPool as error:
        raise DataError(
            "making the phantoms was ended from outside; if memory ran out, raise voxel_mm"
        ) from error
    finally:
        for aside in asides:
            for left in aside.parent.glob(f"*{aside.name}*"):
                shutil.rmtree(left, ignore_errors=True)


def _require_hospital(site: str, data: PhantomData) -> None:
    """Refuse a hospital or contrast that there is not, before any is made."""
    from polysite.phantom.hospital import hospital_named
    from polysite.phantom.kinds import KINDS

    try:
        KINDS[data.kind].site(data.hospital)
        for contrast in data.contrasts or ():  # of heads; a heart's cannot be chosen
            hospital_named(data.hospital).protocol(contrast)
    except DataError as error:
        owners = [name for name, kind in KINDS.items() if data.hospital in {s.name for s in kind.sites()}]
        other = [f"; {data.hospital} is of kind: {owner}" for owner in owners if owner != data.kind]
        raise ConfigError(f"sites.{site}.data: {error}{''.join(other)}") from error


def _make_phantom(data: PhantomData, folder: Path, aside: Path) -> None:
    from polysite.phantom.kinds import KINDS

    chosen = {} if data.contrasts is None else {"contrasts": data.contrasts}
    KINDS[data.kind].write_site(
        aside, data.hospital, n_subjects=data.n_subjects, seed=data.seed, voxel_mm=data.voxel_mm, **chosen
    )
    try:
        aside.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was faster, with the same bytes
            raise


def require_usable(run: Run, found: Mapping[str, list[Case]]) -> None:
    """Refuse sites and cases that cannot be trained on; opens no image.

    Raises
    ------
    DataError
        A line for each trouble.
    """
    errors = [finding for finding in check_found(run, found) if finding.level == "error"]
    if errors:
        raise DataError(
            "\n".join(" ".join(filter(None, (f"{e.site}:", e.case, e.message))) for e in errors)
            + "\n`polysite check` reads every image and lists all trouble"
        )


def split_cases(run: Run, found: Mapping[str, list[Case]]) -> dict[str, dict[str, list[str]]]:
    """Subjects of every site and split.

    Raises
    ------
    DataError
        If no training subject has both contrasts of a task, or a labelled image.
    """
    subjects = {name: sorted({case.subject for case in cases}) for name, cases in found.items()}
    splits = split_subjects(subjects, run.split, run.seed)
    for name, cases in found.items():
        training = [case for case in cases if case.subject in splits[name]["train"]]
        lacking = [
            f"both contrasts of {text}"
            for text in run.sites[name].tasks
            if not any(set(parse_task(text)) <= set(case.images) for case in training)
        ]
        if run.sites[name].labels and not any(case.labels for case in training):
            lacking = ["an image with a label image"]
        if lacking:
            raise DataError(
                f"{name}: no training subject has {lacking[0]}; name some in split.subjects.{name}.train, "
                "or change the fractions or the seed"
            )
    return splits


def prepare_cases(
    run: Run,
    found: Mapping[str, list[Case]],
    splits: Mapping[str, Mapping[str, list[str]]],
    progress: Progress | None = None,
) -> dict[str, dict[str, list[PreparedCase]]]:
    """Site -> split -> prepared cases, from the cache where they are there already.

    For segmentation each image is a case of its own.

    Raises
    ------
    DataError
        If the splits name a subject that is not there (any more), or a case cannot be prepared.
    """
    for name, cases in found.items():
        there = {case.subject for case in cases}
        for split, subjects in splits[name].items():
            for subject in subjects:
                if subject not in there:
                    raise DataError(
                        f"{name}: sub-{subject} of the {split} split is not in the site's data any more; "
                        "put it back, or begin a new run"
                    )
    prepared: dict[str, dict[str, list[PreparedCase]]] = {}
    for name, cases in found.items():
        site = run.sites[name]
        wanted = [part for case in cases for part in case.parts()] if site.labels else cases
        settings = site.prepare or run.prepare
        done = prepare_site(wanted, settings, run.cache_folder(), progress=progress, workers=cores())
        _require_classes(name, site, done, progress)
        prepared[name] = {
            split: [case for case in done if case.subject in subjects]
            for split, subjects in splits[name].items()
        }
    return prepared


def _require_classes(name: str, site: Site, cases: Sequence[PreparedCase], progress: Progress | None) -> None:
    """Refuse a site whose label images are empty or of other values than its classes'; tell of a class without any."""
    labels = [case.record["labels"] for case in cases if case.record["labels"] is not None]
    values = {int(value) for record in labels for value in record["native_ml"]}
    if labels and not values:
        raise DataError(f"{name}: no label image has a label: every voxel is 0; correct the files")
    found = list(unseen_classes(name, site, values))
    errors = [f"{name}: {finding.message}" for finding in found if finding.level == "error"]
    if errors:
        raise DataError("\n".join(errors))
    for finding in found:
        if progress:
            progress(f"{name}: {finding.message}")
