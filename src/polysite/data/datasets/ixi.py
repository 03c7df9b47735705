"""IXI: healthy heads from three hospitals in London."""

from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.data.datasets.folder import files_below, grouped, together

SCANNERS = {"Guys": "Philips 1.5 T", "HH": "Philips 3 T", "IOP": "GE 1.5 T"}
WORDS = {"T1w": "T1", "T2w": "T2", "PDw": "PD", "MRA": "MRA"}


def find(root: Path) -> Found:
    """A visit a subject; the site is the second part of a file's name."""
    folder = files_below(root)
    visits = []
    for key, group in grouped(
        folder, r"(?P<key>IXI\d+-[A-Za-z]+-\d+)-(?P<kind>T1|T2|PD|MRA)\.nii(\.gz)?"
    ).items():
        subject, site, _ = key.split("-")
        facts = {"scanner": SCANNERS[site]} if site in SCANNERS else {}
        visits.append(Visit(subject, None, site, group.under(WORDS.items()), facts=facts, notes=group.notes))
    diffusion = folder.named(r"IXI.*-DTI.*\.nii(\.gz)?")
    skipped = together(diffusion, "diffusion imaging, one volume a direction")
    return Found(tuple(visits), (*folder.skipped, *skipped))


IXI = Dataset(
    name="ixi",
    title="IXI (Information eXtraction from Images)",
    url="https://brain-development.org/ixi-dataset/",
    access="Free download: one archive for each of T1, T2, PD and MRA. Unpack them below one folder.",
    licence="CC BY-SA 3.0",
    citation="IXI data set, Biomedical Image Analysis Group, Imperial College London, brain-development.org.",
    layout="""\
IXI-T1/IXI002-Guys-0828-T1.nii.gz
IXI-T2/IXI002-Guys-0828-T2.nii.gz
IXI-PD/IXI002-Guys-0828-PD.nii.gz
IXI-MRA/IXI002-Guys-0828-MRA.nii.gz""",
    contrasts=tuple(WORDS),
    site_key="the hospital in the file's name: Guys, HH (Hammersmith) or IOP (Institute of Psychiatry)",
    find=find,
    sites=tuple(SCANNERS),
    pair=("T1w", "T2w"),
    traps=(
        "The hospital stands in the file name alone; the spreadsheet IXI.xls, which does not name it, is not read.",
        "Not every subject has every contrast: `require: [T1w, T2w]` keeps those that do.",
        "T1w is stored sagittally, T2w and PDw axially, on other grids: preparation turns and registers them.",
        "The files of diffusion imaging (`-DTI-00` to `-DTI-15`) are skipped.",
    ),
)
