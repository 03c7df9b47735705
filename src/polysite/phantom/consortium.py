"""Hospitals written as BIDS: scans with sidecars, and the exact truth as a BIDS derivative."""

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
from polysite.phantom.examination import Examination, examine
from polysite.phantom.hospital import Hospital, Protocol, hospital_named, hospitals
from polysite.phantom.tissue import TISSUES

__all__ = ["VERSION", "hospitals", "write_hospital"]

VERSION = "3"
"""Changes whenever the same arguments give other bytes."""


def write_hospital(
    out: Path,
    hospital: str,
    *,
    n_subjects: int,
    seed: int,
    contrasts: tuple[str, ...] | None = None,
    voxel_mm: float | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write one hospital as a BIDS data set.

    The same arguments give the same bytes, and a subject does not depend on how many there are. The folder
    appears when it is complete.

    Parameters
    ----------
    out : Path
        The data set's folder; must not exist, or be empty.
    hospital : str
        One of :func:`hospitals`.
    n_subjects, seed : int
    contrasts : tuple of str, optional
        Which of the hospital's contrasts; default: all.
    voxel_mm : float, optional
        In-plane voxel size; default: the hospital's own.
    progress : callable, optional
        Called with one line a subject.

    Raises
    ------
    DataError
        If `out` is not empty or cannot be written, or hospital, contrasts, subjects or voxel size are impossible.
    """
    chosen = hospital_named(hospital)
    wanted = tuple(c for c in chosen.contrasts if contrasts is None or c in contrasts)
    for contrast in contrasts or ():
        chosen.protocol(contrast)
    if n_subjects < 1 or not wanted:
        raise DataError(
            f"a phantom hospital needs a subject and a contrast, not {n_subjects} and {contrasts!r}"
        )
    if voxel_mm is not None and not 0.5 <= voxel_mm <= 20:
        raise DataError(f"voxel_mm is {voxel_mm}; choose 0.5 to 20 mm")
    with whole_folder(out) as folder:
        _write_descriptions(folder, chosen, n_subjects)
        for number, subject in subjects_of(chosen.name, n_subjects, progress):
            examination = examine(chosen, wanted, seed=seed, number=number, voxel_mm=voxel_mm)
            _write_subject(folder, subject, chosen, examination)
    return out


def _write_descriptions(root: Path, hospital: Hospital, n_subjects: int) -> None:
    name = f"Phantom hospital {hospital.name}"
    write_json(root / "dataset_description.json", described(name, "raw"))
    (root / "README").write_text(
        f"{name}: procedural heads seen by a simulated {hospital.manufacturer} {hospital.model} at "
        f"{hospital.field_t:g} T.\nNo person was scanned. derivatives/truth holds labels, quantitative maps, "
        "noise-free images and motion.\n\nProtocols\n"
        + "".join(f"* {p.contrast}: {p.source}\n" for p in hospital.protocols),
        encoding="utf-8",
    )
    rows = [(f"sub-{hospital.name}{k:02d}", hospital.name) for k in range(1, n_subjects + 1)]
    write_tsv(root / "participants.tsv", [("participant_id", "site"), *rows])
    write_json(root / "participants.json", {"site": {"Description": "Phantom hospital"}})
    truth = root / "derivatives" / "truth"
    truth.mkdir(parents=True)
    write_json(truth / "dataset_description.json", described(f"{name}: truth", "derivative"))
    (truth / "README").write_text(
        "Exact truth of the phantom, in the pose of the first contrast.\n"
        "* dseg: the tissue that fills most of a voxel (dseg.tsv names them)\n"
        "* PDmap (water is 1), T1map and T2map (seconds)\n"
        "* desc-clean: the images without noise, shading and motion; the sidecar has the motion\n",
        encoding="utf-8",
    )
    write_tsv(truth / "dseg.tsv", [("index", "name"), *enumerate(TISSUES)])


def _write_subject(root: Path, subject: str, hospital: Hospital, examination: Examination) -> None:
    grid = examination.grid

    def write(path: Path, array: Any, dtype: str, sidecar: dict[str, Any]) -> None:
        write_volume(path, array, grid.affine, dtype, sidecar)

    scans = root / subject / "anat"
    truth = root / "derivatives" / "truth" / subject / "anat"
    first = examination.scans[0].protocol.contrast
    place = {
        "SkullStripped": False,
        "SpatialReference": f"bids:raw:{subject}/anat/{subject}_{first}.nii.gz",
    }
    for scan in examination.scans:
        contrast = scan.protocol.contrast
        # scanners store integers
        image = np.minimum(np.rint(scan.image), np.iinfo(np.int16).max)
        write(scans / f"{subject}_{contrast}", image, "int16", sidecar(hospital, scan.protocol, grid.step_mm))
        about = {
            "Description": f"{contrast} without noise, shading and motion",
            **place,
            "Sources": [f"bids:raw:{subject}/anat/{subject}_{contrast}.nii.gz"],
            "ScanToTruth": [[round(float(value), 9) for value in row] for row in scan.motion],
            "ScanToTruthDescription": "RAS mm: the scan shows at point p what the truth has at this matrix times p",
        }
        write(truth / f"{subject}_desc-clean_{contrast}", scan.clean, "float32", about)
    about = {"Description": "Tissue that fills most of each voxel", "Manual": False, **place}
    write(truth / f"{subject}_dseg", examination.labels, "uint8", about)
    pd = {"Description": "Proton density, water is 1", "Units": "arbitrary", **place}
    write(truth / f"{subject}_PDmap", examination.pd, "float32", pd)
    for name, values in (("T1", examination.t1_ms), ("T2", examination.t2_ms)):
        times = {"Description": f"{name}, mean weighted by proton density", "Units": "s", **place}
        write(truth / f"{subject}_{name}map", values / 1000, "float32", times)


def sidecar(hospital: Hospital, protocol: Protocol, step_mm: tuple[float, float, float]) -> dict[str, Any]:
    """BIDS metadata of a scan: times in seconds, angles in degrees, lengths in mm."""

    p = protocol
    kinds = {
        "spin_echo": ("SE", "turbo spin echo"),
        "inversion_recovery": (["SE", "IR"], "fluid-attenuated inversion recovery"),
        "spoiled_gradient_echo": ("GR", "spoiled gradient echo"),
        "magnetisation_prepared": (["GR", "IR"], "magnetisation-prepared gradient echo"),
    }
    code, kind = kinds[p.sequence]
    content: dict[str, Any] = {
        "Modality": "MR",
        "Manufacturer": hospital.manufacturer,
        "ManufacturersModelName": hospital.model,
        "MagneticFieldStrength": hospital.field_t,
        "InstitutionName": f"Phantom hospital {hospital.name}",
        "MRAcquisitionType": p.dimensions,
        "ScanningSequence": code,
        "PulseSequenceType": kind,
        "RepetitionTime": seconds(p.tr_header_ms),
        "EchoTime": seconds(p.te_ms),
        "FlipAngle": p.flip_deg,
        "SliceThickness": max(p.thickness_mm, step_mm[2]),
        "SpacingBetweenSlices": step_mm[2],
    }
    if p.ti_header_ms is not None:
        content["InversionTime"] = seconds(p.ti_header_ms)
    if p.shot_ms is not None:
        content["RepetitionTimeExcitation"] = seconds(p.shot_ms)
        content["RepetitionTimePreparation"] = seconds(p.tr_ms)
    content["ProtocolSource"] = p.source
    return content
