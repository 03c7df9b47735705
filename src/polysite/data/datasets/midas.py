"""MIDAS: healthy heads from one scanner in Chapel Hill."""

from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.data.datasets.folder import files_below, grouped, together

WORDS = {"T1w": "T1-Flash", "T2w": "T2", "MRA": "MRA"}


def find(root: Path) -> Found:
    """A visit a subject."""
    folder = files_below(root)
    groups = grouped(folder, r"Normal-?(?P<key>\d+)-(?P<kind>T1-Flash|T2|MRA)\.(mha|nii|nii\.gz)")
    visits = tuple(
        Visit(f"Normal{key}", None, "UNC", group.under(WORDS.items()), notes=group.notes)
        for key, group in groups.items()
    )
    skipped = together(folder.named(r"Normal.*-DTI.*\.mha"), "diffusion imaging")
    return Found(visits, (*folder.skipped, *skipped))


MIDAS = Dataset(
    name="midas",
    title="MIDAS (Designed Database of MR Brain Images of Healthy Volunteers)",
    url="https://data.kitware.com/#collection/591086ee8d777f16d01e0724",
    access="Free download. The first home, midas.kitware.com, is closed; copies exist elsewhere.",
    licence="made public by the CASILab, University of North Carolina; no licence text is known",
    citation=(
        "Bullitt et al., Vessel tortuosity and brain tumor malignancy: a blinded study, "
        "Academic Radiology 12:1232-1240, 2005."
    ),
    layout="""\
Normal-001/Normal001-T1-Flash.mha
Normal-001/Normal001-T2.mha
Normal-001/Normal001-MRA.mha""",
    contrasts=tuple(WORDS),
    site_key="one site: one scanner",
    find=find,
    sites=("UNC",),
    pair=("T1w", "T2w"),
    traps=(
        "The folder's name has a hyphen, the file's name has none.",
        "Files are MetaImage (`.mha`); they are read without conversion.",
        "About 100 subjects with gaps in their numbers; several lack a contrast: `require: [T1w, T2w]`.",
        "Contrasts of one subject are not registered to one another; preparation does it.",
    ),
)
