"""OASIS-3: ageing heads, scanned several times over years on a handful of scanners."""

import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from polysite.data.bids import entities_of, pick
from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.data.datasets.folder import files_below, together
from polysite.data.datasets.texts import text_of

ENDINGS = {"T1w": "T1w", "T2w": "T2w", "FLAIR": "FLAIR", "T2star": "T2star", "MRA": "angio"}
TAGS = {"scanner": "ManufacturersModelName", "manufacturer": "Manufacturer", "field": "MagneticFieldStrength"}
NO_PERSON = "0AS_data_files"
UNKNOWN = "unknown"


def find(root: Path) -> Found:
    """A visit a session, from any of the three layouts: names of files are the same in all."""
    folder = files_below(root)
    images: dict[tuple[str, str], list[Path]] = defaultdict(list)
    sidecars: dict[tuple[str, str], list[Path]] = defaultdict(list)
    sheets = [path for path in folder.files if NO_PERSON in folder.below(path)]
    for path in folder.files:
        session = session_of(folder.below(path))
        if session is None or NO_PERSON in folder.below(path):
            continue
        if path.suffix == ".json":
            sidecars[session].append(path)
        elif (parsed := entities_of(path.name)) and parsed[1] in ENDINGS.values():
            images[session].append(path)
    visits = []
    first_scanner: dict[str, str] = {}
    for session, files in sorted(images.items()):
        picks = {name: pick(files, ending) for name, ending in ENDINGS.items()}
        chosen = {name: path for name, (path, _) in picks.items() if path}
        notes = tuple(note for _, passed in picks.values() for note in passed)
        facts = scanner_of(sidecars[session], {path.name.split(".")[0] for path in chosen.values()})
        if "scanner" in facts:
            first_scanner.setdefault(session[0], facts["scanner"])
        visits.append(Visit(*session, UNKNOWN, chosen, facts=facts, notes=notes))
    visits = [replace(visit, site=first_scanner.get(visit.subject, UNKNOWN)) for visit in visits]
    return Found(tuple(visits), (*folder.skipped, *together(sheets, "spreadsheets, not a person")))


def session_of(name: str) -> tuple[str, str] | None:
    """Subject and session of a path: ``sub-OAS30001_ses-d0129_…``, or else ``OAS30001_MR_d0129/…``.

    >>> session_of("OAS30001_MR_d0129/anat1/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz")
    ('OAS30001', 'd0129')
    """
    for pattern in (r"sub-(OAS3\d+)_ses-(d\d+)_[^/]*$", r"(OAS3\d+)_MR_(d\d+)/"):
        if match := re.search(pattern, name):
            return match[1], f"d{int(match[2][1:]):04d}"
    return None


def scanner_of(sidecars: list[Path], stems: set[str]) -> dict[str, str]:
    """What a session's JSON files say of its scanner; those of images in use first."""
    for path in sorted(sidecars, key=lambda path: (path.stem not in stems, path)):
        try:
            content = json.loads(text_of(path))
        except (ValueError, RecursionError):
            continue  # a damaged sidecar says nothing; the next one may
        if isinstance(content, dict) and content.get(TAGS["scanner"]):
            return {name: str(content[tag]) for name, tag in TAGS.items() if tag in content}
    return {}


OASIS3 = Dataset(
    name="oasis3",
    title="OASIS-3 (Open Access Series of Imaging Studies)",
    url="https://sites.wustl.edu/oasisbrains/home/oasis-3/",
    access="A signed data use agreement; the files are at nitrc.org/ir. Ask for NIFTI and for JSON (BIDS).",
    licence="OASIS data use agreement; no redistribution",
    citation=(
        "LaMontagne et al., OASIS-3: longitudinal neuroimaging, clinical, and cognitive dataset for normal aging and "
        "Alzheimer disease, medRxiv 2019.12.13.19014902."
    ),
    layout="""\
OAS30001_MR_d0129/anat1/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz (and .json)
OAS30001_MR_d0129/scans/anat1-T1w/resources/NIFTI/files/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz
sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_T1w.nii.gz""",
    contrasts=tuple(ENDINGS),
    site_key="the model of the scanner of a person's first session, from the JSON files (ManufacturersModelName); "
    "`unknown` without them",
    find=find,
    pair=("T1w", "T2w"),
    traps=(
        "A person has several sessions, years apart, perhaps on two scanners. All are of one site, that of the first, "
        "so that nobody is at two sites; splits are by person. `where: {scanner: …}` keeps the sessions of a scanner.",
        "Images and JSON files are separate resources at the archive; without JSON no scanner is known.",
        "Of several runs the plain one is taken (fewest entities, lowest run); the others are noted.",
        "`0AS_data_files` holds spreadsheets and is skipped.",
        "Functional and diffusion files are not read.",
    ),
)
