"""A DICOM folder as a BIDS folder in the cache: chosen series, pseudonyms, whitelisted parameters; nothing else.

``<cache>/dicom/<people>/<digest>/sub-*/ses-*/anat/``. `people` stands for the secret or the key: below it one label is
one person. `digest` stands for the folder and the patterns. ``index.json`` holds what was converted from what, in
keyed hashes.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from polysite.config.base import anchored, expand
from polysite.config.sources import DicomData
from polysite.data.case import label_of
from polysite.data.dicom.choice import Chosen, choose
from polysite.data.dicom.pseudonym import Pseudonyms, read_key, read_secret
from polysite.data.dicom.reading import require_pydicom
from polysite.data.dicom.scan import Listed, Scan, Series, list_files, scan
from polysite.data.dicom.volume import read_series
from polysite.errors import DataError
from polysite.image import atomic, write_image
from polysite.lock import in_turn

VERSION = 1
"""Raised whenever the same files and settings would give other volumes."""
MAX_TOLD = 20
"""Lines of an error about many series."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Converted:
    """A converted folder.

    Attributes
    ----------
    folder : Path
        The BIDS folder.
    people : Path
        Above it: the same label below this folder is the same person.
    endings : dict of str to str
        Contrast to the ending of its files.
    notes : dict of str to tuple of str
        ``sub-…_ses-…`` to what was passed over in that study; ``""``: in the whole folder.
    """

    folder: Path
    people: Path
    endings: dict[str, str]
    notes: dict[str, tuple[str, ...]]


@dataclass
class _Work:
    """What is known of a conversion while it goes on."""

    folder: Path
    old: Mapping[str, Any]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)


def pseudonyms_of(data: DicomData, cache: Path) -> Pseudonyms:
    """The site's pseudonyms; a secret is made if there is none yet."""
    secret = cache / "dicom" / "secret" if data.secret is None else expand(data.secret)
    key = None if data.key is None else read_key(expand(data.key))
    return Pseudonyms(read_secret(secret), key)


def convert(data: DicomData, cache: Path, progress: Progress | None = None) -> Converted:
    """Convert what is not converted yet.

    Raises
    ------
    DataError
        If the folder or the secret cannot be used, nothing fits, or a series that should be taken cannot be and
        `trouble` is ``refuse``. Messages hold the configured path and numbers, nothing from below the path.
    """
    require_pydicom()
    root = data.folder()
    (cache / "dicom").mkdir(mode=0o700, parents=True, exist_ok=True)
    names = pseudonyms_of(data, cache)
    people = cache / "dicom" / names.of("people", str(anchored(data.key)) if data.key else "")
    content = {
        "path": str(anchored(root)),
        **data.model_dump(mode="json", include={"contrasts", "where", "derived", "trouble"}),
    }
    folder = people / names.of("data", json.dumps(content))
    endings = {contrast: label_of(contrast) for contrast in data.contrasts}
    try:
        files = list_files(root)
        tree = names.digest("tree", *_described(root, files), json.dumps(names.key)).hex()
        folder.mkdir(parents=True, exist_ok=True)
        with in_turn(folder):
            index = _read_index(folder)
            if index.get("tree") != tree or not _all_there(folder, index["entries"]):
                index = _bring(data, names, folder, index, scan(root, files, progress), progress)
                _write_json(folder / "index.json", {**index, "tree": tree})
    except DataError as error:
        raise DataError(f"{data.path}: {error}") from None
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror}; check the folder and its space"
        ) from None
    return Converted(folder, people, endings, {key: tuple(notes) for key, notes in index["notes"].items()})


def _bring(
    data: DicomData,
    names: Pseudonyms,
    folder: Path,
    index: Mapping[str, Any],
    found: Scan,
    progress: Progress | None,
) -> dict[str, Any]:
    """Bring the BIDS folder to what was found; the new index."""
    work = _Work(folder, index["entries"])
    work.notes[""] += _counts(found)
    studies = _studies(found, names, work)
    chosen: list[tuple[str, str, Chosen]] = []
    n_without = 0
    for (subject, session), study in sorted(studies.items()):
        key = f"sub-{subject}_ses-{session}"
        n_before = len(chosen) + len(work.errors)
        for contrast in data.contrasts:
            one, notes, errors = choose(study, data, contrast)
            work.notes[key] += one.notes if one else notes
            work.errors += [f"{key}: {error}" for error in errors]
            chosen += [(key, contrast, one)] if one else []
        n_without += len(chosen) + len(work.errors) == n_before
    if n_without:
        work.notes[""].append(f"{n_without} studies have no series that fits")
    _refuse(work.errors)
    for number, (key, contrast, one) in enumerate(chosen, start=1):
        if progress and not _kept(work, _place(key, contrast), _fingerprint(names, found.root, one)):
            progress(f"converting {key} {contrast} ({number} of {len(chosen)})")
        _convert_one(data, names, work, found.root, key, contrast, one)
    _refuse(work.errors)
    if not work.entries:
        counts = "; ".join(work.notes[""]) or "it holds no file"
        raise DataError(
            f"nothing found: {len(found.series)} series, none of them can be taken for {', '.join(data.contrasts)} "
            f"({counts}); `polysite dicom {data.path}` lists them"
        )
    _write_json(folder / "dataset_description.json", DESCRIPTION)
    _remove_others(folder, work.entries)
    return {"version": VERSION, "entries": work.entries, "notes": work.notes}


DESCRIPTION = {
    "Name": "Chosen series of a DICOM folder, under pseudonyms",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "GeneratedBy": [{"Name": "Polysite", "Version": version("polysite")}],
}


def _refuse(errors: Sequence[str]) -> None:
    if errors:
        more = [f"and {len(errors) - MAX_TOLD} more"] if len(errors) > MAX_TOLD else []
        raise DataError(
            "\n".join(["series that cannot be taken:", *errors[:MAX_TOLD], *more])
            + "\n`polysite dicom` shows which series and files these numbers are; correct them, or set "
            "`trouble: leave_out`"
        )


def _studies(found: Scan, names: Pseudonyms, work: _Work) -> dict[tuple[str, str], list[Series]]:
    """Series by subject and session; persons who are not in the key are counted and left out."""
    studies: dict[tuple[str, str], list[Series]] = defaultdict(list)
    unknown = set()
    nameless = set()
    for series in found.series:
        header = series.first
        subject = names.subject(header)
        if subject is None:
            unknown.add(header.person)
            continue
        if not header.person[0]:
            nameless.add(header.study)
        studies[subject, names.session(header)].append(series)
    if unknown:
        work.notes[""].append(f"{len(unknown)} persons are not in `key` and were left out")
    if nameless:
        work.notes[""].append(
            f"{len(nameless)} studies have no PatientID; each was taken for a person of its own"
        )
    return studies


def _counts(found: Scan) -> Iterator[str]:
    for count, what in (
        (found.n_not_dicom, "files are not DICOM"),
        (found.n_other, "DICOM files are no MR images"),
        (len(found.damaged), "DICOM files are damaged"),
    ):
        if count:
            yield f"{count} {what} and were passed over"


def _convert_one(
    data: DicomData, names: Pseudonyms, work: _Work, root: Path, key: str, contrast: str, chosen: Chosen
) -> None:
    """Write one volume with its sidecar, if it is not there already."""
    place, fingerprint = _place(key, contrast), _fingerprint(names, root, chosen)
    if _kept(work, place, fingerprint):
        work.entries[place] = work.old[place]
        return
    try:
        image, _ = read_series(chosen.series, contrast)
    except DataError as error:
        if data.trouble == "refuse":
            work.errors.append(f"{key}: series {chosen.series.number} ({contrast}): {error}")
        else:
            work.notes[key].append(f"{contrast}: series {chosen.series.number} was left out: {error}")
        return
    path = work.folder / f"{place}.nii.gz"
    write_image(image, path)
    _write_json(
        work.folder / f"{place}.json",
        {"Modality": "MR", **chosen.series.first.parameters, "ConversionSoftware": "Polysite"},
    )
    work.entries[place] = {"from": fingerprint, "size": path.stat().st_size}
    # a stopped conversion goes on from here; without `tree` the folder is looked at again
    _write_json(
        work.folder / "index.json",
        {"version": VERSION, "entries": {**work.old, **work.entries}, "notes": {}},
    )


def _place(key: str, contrast: str) -> str:
    """A volume's path in the BIDS folder, without its ending."""
    subject, session = key.split("_")
    return f"{subject}/{session}/anat/{key}_{label_of(contrast)}"


def _fingerprint(names: Pseudonyms, root: Path, chosen: Chosen) -> str:
    files = [listed for _, listed, _ in chosen.series.files]
    return names.digest("series", str(VERSION), *_described(root, files)).hex()


def _described(root: Path, files: Sequence[Listed]) -> Iterator[str]:
    for listed in files:
        yield f"{listed.path.relative_to(root)} {listed.size} {listed.time_ns}"


def _kept(work: _Work, place: str, fingerprint: str) -> bool:
    entry = work.old.get(place)
    return entry is not None and entry["from"] == fingerprint and _all_there(work.folder, {place: entry})


def _all_there(folder: Path, entries: Mapping[str, Any]) -> bool:
    for place, entry in entries.items():
        path = folder / f"{place}.nii.gz"
        if not path.is_file() or path.stat().st_size != entry["size"]:
            return False
    return bool(entries)


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["version"] == VERSION and all(entry["from"] for entry in index["entries"].values()):
            return index
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # none yet, or damaged: everything is converted again
    return {"entries": {}, "notes": {}}


def _remove_others(folder: Path, entries: Mapping[str, Any]) -> None:
    """Remove volumes whose series is not there any more, or not chosen."""
    for path in folder.glob("sub-*/ses-*/anat/*"):
        place = str(path.relative_to(folder)).removesuffix(".nii.gz").removesuffix(".json")
        if place not in entries:
            path.unlink(missing_ok=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
