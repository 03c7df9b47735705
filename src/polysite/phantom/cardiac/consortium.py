"""Centres written as BIDS: a stack a frame, the labels used for training, and the exact truth.

BIDS has no suffix for cardiac scans. Cine frames are ``sub-x_rec-ED_cine`` and ``sub-x_rec-ES_cine`` (two
reconstructions of one gated acquisition), late enhancement is ``sub-x_LGE``; ``.bidsignore`` names both suffixes.
"""

from pathlib import Path
from typing import Any

import numpy as np

from polysite.errors import DataError
from polysite.phantom.bids import (
    Progress,
    described,
    seconds,
    subjects_of,
    whole_folder,
    write_json,
    write_tsv,
    write_volume,
)
from polysite.phantom.cardiac.centre import Centre, centre_named
from polysite.phantom.cardiac.examination import Examination, examine
from polysite.phantom.cardiac.heart import truth

VERSION = "1"
"""Changes whenever the same arguments give other bytes."""

TRUTH = {
    "lv_edv_ml": "left ventricle (papillary muscles and trabeculae included) at end-diastole",
    "lv_esv_ml": "left ventricle at end-systole",
    "lv_ef_percent": "ejection fraction of the left ventricle",
    "rv_edv_ml": "right ventricle at end-diastole",
    "rv_esv_ml": "right ventricle at end-systole",
    "rv_ef_percent": "ejection fraction of the right ventricle",
    "myocardium_ml": "wall of the left ventricle, infarct included",
    "infarct_ml": "infarct, no-reflow included, at end-diastole",
    "no_reflow_ml": "no-reflow at end-diastole",
}


def write_centre(
    out: Path,
    name: str,
    *,
    n_subjects: int,
    seed: int,
    voxel_mm: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one centre as a BIDS data set.

    The same arguments give the same bytes, and a subject does not depend on how many there are. The folder
    appears when it is complete.

    Parameters
    ----------
    out : Path
        The data set's folder; must not exist, or be empty.
    name : str
        One of :func:`polysite.phantom.cardiac.centre.centres`.
    n_subjects, seed : int
    voxel_mm : float, optional
        In-plane voxel size; default: the centre's own. Slices stay as they are.
    progress : callable, optional
        Called with one line a subject.

    Raises
    ------
    DataError
        If `out` is not empty or cannot be written, or name, subjects or voxel size are impossible.
    """
    centre = centre_named(name)
    if n_subjects < 1:
        raise DataError(f"a phantom centre needs a subject, not {n_subjects}")
    if voxel_mm is not None and not 0.5 <= voxel_mm <= 10:
        raise DataError(f"voxel_mm is {voxel_mm}; choose 0.5 to 10 mm for a heart")
    with whole_folder(out) as folder:
        _write_descriptions(folder, centre)
        people: list[tuple[Any, ...]] = [("participant_id", "site", "group")]
        volumes: list[tuple[Any, ...]] = [("participant_id", *TRUTH)]
        for number, subject in subjects_of(centre.name, n_subjects, progress):
            examination = examine(centre, seed=seed, number=number, in_plane_mm=voxel_mm)
            _write_subject(folder, subject, centre, examination)
            people.append((subject, centre.name, examination.heart.group))
            exact = truth(examination.heart)
            volumes.append((subject, *(f"{exact[key]:.3f}" for key in TRUTH)))
        write_tsv(folder / "participants.tsv", people)
        write_tsv(folder / "phenotype" / "heart.tsv", volumes)
    return out


def _write_descriptions(root: Path, centre: Centre) -> None:
    name = f"Phantom centre {centre.name}"
    write_json(root / "dataset_description.json", described(name, "raw"))
    kind = "late gadolinium enhancement" if centre.enhanced else "cine at end-diastole and end-systole"
    (root / "README").write_text(
        f"{name}: procedural hearts in short-axis stacks, {kind}, seen by a simulated {centre.manufacturer} "
        f"{centre.model} at {centre.field_t:g} T.\nNo person was scanned. derivatives/truth holds labels and "
        f"images without noise and shading, phenotype/heart.tsv exact volumes.\n\nProtocol: {centre.source}\n",
        encoding="utf-8",
    )
    # no BIDS suffix exists for cardiac images
    (root / ".bidsignore").write_text("*_cine.*\n*_LGE.*\n", encoding="utf-8")
    write_json(
        root / "participants.json",
        {"site": {"Description": "Phantom centre"}, "group": {"Description": "Kind of heart"}},
    )
    (root / "phenotype").mkdir()
    units = {key: "percent" if key.endswith("percent") else "ml" for key in TRUTH}
    write_json(
        root / "phenotype" / "heart.json",
        {
            "MeasurementToolMetadata": {"Description": "Exact integrals of the phantom's surfaces"},
            **{key: {"Description": text, "Units": units[key]} for key, text in TRUTH.items()},
        },
    )
    folder = root / "derivatives" / "truth"
    folder.mkdir(parents=True)
    write_json(folder / "dataset_description.json", described(f"{name}: truth", "derivative"))
    (folder / ".bidsignore").write_text("*_cine.*\n*_LGE.*\n", encoding="utf-8")
    (folder / "README").write_text(
        "* dseg: the region that fills most of a voxel (dseg.tsv names them)\n"
        "* desc-clean: the images without noise and shading; slices lie where the breath-holds left them\n",
        encoding="utf-8",
    )
    write_tsv(folder / "dseg.tsv", [("index", "name"), *enumerate(centre.labels)])


def _write_subject(root: Path, subject: str, centre: Centre, examination: Examination) -> None:
    scans = root / subject / "anat"
    truths = root / "derivatives" / "truth" / subject / "anat"
    for scan in examination.scans:
        stem = subject if centre.enhanced else f"{subject}_rec-{scan.frame}"
        suffix = centre.contrasts[0]
        raw = f"bids:raw:{subject}/anat/{stem}_{suffix}.nii.gz"
        # scanners store integers
        image = np.minimum(np.rint(scan.image), np.iinfo(np.int16).max)
        about = sidecar(centre, examination, scan.frame)
        write_volume(scans / f"{stem}_{suffix}", image, examination.affine, "int16", about)
        about = {
            "Description": f"{suffix} without noise and shading",
            "SkullStripped": False,
            "Sources": [raw],
            "SliceShiftMillimetres": [[round(float(v), 4) for v in row] for row in examination.shifts_mm],
            "SliceShiftDescription": "Where the breath-hold of each slice left the heart: along the image's columns "
            "and rows",
        }
        write_volume(truths / f"{stem}_desc-clean_{suffix}", scan.clean, examination.affine, "float32", about)
        about = {
            "Description": "Region that fills most of each voxel",
            "Manual": False,
            "Sources": [raw],
            "SpatialReference": raw,
        }
        write_volume(truths / f"{stem}_dseg", scan.labels, examination.affine, "uint8", about)


def sidecar(centre: Centre, examination: Examination, frame: str) -> dict[str, Any]:
    """Metadata of a stack: times in seconds, angles in degrees, lengths in mm."""
    content: dict[str, Any] = {
        "Modality": "MR",
        "BodyPart": "HEART",
        "Manufacturer": centre.manufacturer,
        "ManufacturersModelName": centre.model,
        "MagneticFieldStrength": centre.field_t,
        "InstitutionName": f"Phantom centre {centre.name}",
        "MRAcquisitionType": "2D",
        "ScanningSequence": ["GR", "IR"] if centre.enhanced else "GR",
        "PulseSequenceType": "phase-sensitive inversion recovery gradient echo"
        if centre.enhanced
        else "balanced SSFP",
        "RepetitionTime": seconds(centre.shot_ms or centre.tr_ms),
        "EchoTime": seconds(centre.te_ms),
        "FlipAngle": centre.flip_deg,
        "SliceThickness": centre.thickness_mm,
        "SpacingBetweenSlices": centre.spacing_mm,
    }
    if examination.ti_ms is not None:
        content["InversionTime"] = seconds(examination.ti_ms)
        content["RepetitionTimePreparation"] = seconds(centre.tr_ms)
        content["ContrastBolusIngredient"] = "GADOLINIUM"
    else:
        content["CardiacPhase"] = {"ED": "end-diastole", "ES": "end-systole"}[frame]
    content["ProtocolSource"] = centre.source
    return content
