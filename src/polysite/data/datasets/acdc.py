"""ACDC: cine hearts of five diagnoses from one hospital, end-diastole and end-systole as files of their own."""

import re
from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Skipped, Visit
from polysite.data.datasets.folder import Group, files_below, grouped
from polysite.data.datasets.texts import pairs_of, text_of

FACTS = {"group": "Group", "height": "Height", "weight": "Weight"}
SETS = ("training", "testing")


def find(root: Path) -> Found:
    """A visit a patient: Info.cfg says which frame is end-diastole and which end-systole."""
    folder = files_below(root)
    infos = {path.parent.name: path for path in folder.named(r"Info\.cfg")}
    visits: list[Visit] = []
    skipped = list(folder.skipped)
    pattern = r"(?P<key>patient\d+)_frame(?P<kind>\d+(_gt)?)\.nii(\.gz)?"
    for patient, group in grouped(folder, pattern).items():
        info = pairs_of(text_of(infos.get(patient)))
        frames, notes = frames_of(group, info)
        images = group.under(frames.items())
        path = group.first
        if not images:
            reason = f"{patient}: Info.cfg is missing or does not say which frame is ED and which is ES"
            skipped.append(Skipped(path, reason))
            continue
        labels = group.under((name, f"{frames[name]}_gt") for name in images)
        facts = {name: info.get(key, "") for name, key in FACTS.items()} | {"set": folder.inside(path, SETS)}
        visits.append(Visit(patient, None, "ACDC", images, labels, facts=facts, notes=(*notes, *group.notes)))
    return Found(tuple(visits), tuple(skipped))


def frames_of(group: Group, info: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """ED and ES to the frame's number as files write it, counted from 1; and what was assumed.

    Without Info.cfg two frames of which one is the first are ED and ES: the recordings begin at end-diastole.
    """
    there = sorted({re.sub("_gt", "", word) for word in group.files}, key=int)
    given = {name: info[name] for name in ("ED", "ES") if info.get(name, "").isdigit()}
    if given:
        return {
            name: word for name, number in given.items() for word in there if int(word) == int(number)
        }, ()
    if not info and len(there) == 2 and int(there[0]) == 1:
        return dict(zip(("ED", "ES"), there, strict=True)), (
            f"Info.cfg is missing: frame {there[0]} was taken for ED and frame {there[1]} for ES",
        )
    return {}, ()


ACDC = Dataset(
    name="acdc",
    title="ACDC (Automated Cardiac Diagnosis Challenge)",
    url="https://www.creatis.insa-lyon.fr/Challenge/acdc/",
    access="Registration at the home page.",
    licence="CC BY-NC-SA 4.0; the citation is required",
    citation=(
        "Bernard et al., Deep learning techniques for automatic MRI cardiac multi-structures segmentation and "
        "diagnosis: is the problem solved?, IEEE TMI 37:2514-2525, 2018."
    ),
    layout="""\
training/patient001/Info.cfg
training/patient001/patient001_frame01.nii.gz and patient001_frame01_gt.nii.gz
training/patient001/patient001_frame12.nii.gz and patient001_frame12_gt.nii.gz
testing/patient101/… likewise""",
    contrasts=("ED", "ES"),
    site_key="one site: one hospital; `where: {group: DCM}` makes sites by diagnosis (DCM, HCM, MINF, NOR, RV)",
    find=find,
    labels={"LV": 3, "MYO": 2, "RV": 1},
    sites=("ACDC",),
    traps=(
        "RV is 1 and LV is 3; in M&Ms it is the other way round.",
        "Frames are counted from 1, in Info.cfg and in file names. ED is nearly always 1, but it is read.",
        "ED and ES are two images of one visit, not two sessions.",
        "The sform has unit scale; the voxel size stands in pixdim. Images and labels are mended when they are read.",
        "The whole cine (`_4d`) is not used.",
    ),
)
