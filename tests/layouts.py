"""Small trees in the layouts of public data sets, and what is found in them."""

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from folders import tree
from polysite.config.sources import DatasetData
from polysite.data.case import Case
from polysite.data.datasets.dataset import Found, Visit
from polysite.data.datasets.reader import dataset_named, read_cases

MNMS_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
MNMS_HEADER = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight"


def found_in(name: str, root: Path) -> Found:
    """What a data set finds in a folder."""
    return dataset_named(name).find(root)


def visits_of(name: str, root: Path) -> dict[str, Visit]:
    """The same by subject, or subject and session."""
    return {
        "/".join(filter(None, (visit.subject, visit.session))): visit for visit in found_in(name, root).visits
    }


def reasons(found: Found) -> str:
    """Why things were skipped, with their paths, a line each."""
    return "\n".join(f"{skipped.path}: {skipped.reason}" for skipped in found.skipped)


def cases_of(name: str, root: Path, *contrasts: str, **over: object) -> list[Case]:
    """The cases that the reader gives to a site called ``north``."""
    return read_cases("north", DatasetData(format=name, path=root, **over), contrasts)


def write_nifti(
    path: Path, values: NDArray, affine: NDArray | None = None, zooms: tuple[float, ...] | None = None
) -> None:
    """A file with exactly this sform; ``zooms`` are written into pixdim whatever the sform says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.diag([1.5, 1.5, 8, 1]) if affine is None else affine)
    if zooms:
        image.header["pixdim"][1 : len(zooms) + 1] = zooms
    nibabel.save(image, path)


def acdc(
    root: Path, patient: str = "patient001", es: int = 12, group: str = "DCM", *, info: bool = True
) -> Path:
    """A patient of ACDC, of empty files."""
    ends = ("4d", "frame01", "frame01_gt", f"frame{es:02d}", f"frame{es:02d}_gt")
    tree(root, *(f"{patient}/{patient}_{end}.nii.gz" for end in ends))
    if info:
        text = f"ED: 1\nES: {es}\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        (root / patient / "Info.cfg").write_text(text)
    return root


def mnms(root: Path, *rows: str) -> Path:
    """The table of M&Ms with rows from the column External code on."""
    lines = [MNMS_HEADER, *(f"{number},{row}" for number, row in enumerate(rows))]
    root.mkdir(parents=True, exist_ok=True)
    (root / MNMS_TABLE).write_text("\n".join(lines) + "\n")
    return root


def heart_of(folder: str, code: str) -> tuple[str, str]:
    """Image and label image of M&Ms."""
    return f"{folder}/{code}/{code}_sa.nii.gz", f"{folder}/{code}/{code}_sa_gt.nii.gz"
