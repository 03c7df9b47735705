"""fastMRI brain: reconstructions of clinical heads, one contrast a file."""

from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.data.datasets.folder import files_below, grouped, together

WORDS = {"T1w": "AXT1", "T1pre": "AXT1PRE", "T1ce": "AXT1POST", "T2w": "AXT2", "FLAIR": "AXFLAIR"}
SETS = ("multicoil_train", "multicoil_val", "multicoil_test")


def find(root: Path) -> Found:
    """A visit a file: nothing says which files are of one person."""
    folder = files_below(root)
    visits, raw, other = [], [], []
    pattern = r"file_brain_(?P<key>(?P<kind>AX[A-Z0-9]+)_\d+_\w+)\.h5"
    for key, group in grouped(folder, pattern).items():
        path = group.first
        part = folder.inside(path, SETS).removeprefix("multicoil_")
        if part == "test":
            raw.append(path)
            continue
        acquisition, site, _ = key.split("_", 2)
        facts = {"acquisition": acquisition, "set": part}
        images = group.under(WORDS.items())
        if images:
            visits.append(Visit(key, None, site, images, facts=facts, notes=group.notes))
        else:
            other.append(path)
    skipped = together(raw, "the test set has k-space only, no reconstruction_rss")
    skipped += together(other, f"another acquisition than {', '.join(WORDS.values())}")
    return Found(tuple(visits), (*folder.skipped, *skipped))


FASTMRI = Dataset(
    name="fastmri",
    title="fastMRI brain (NYU Langone)",
    url="https://fastmri.med.nyu.edu",
    access="A data sharing agreement. Files are read with h5py: `pip install 'polysite[fastmri]'`.",
    licence="NYU fastMRI data sharing agreement: research use, no redistribution",
    citation=(
        "Zbontar et al., fastMRI: an open dataset and benchmarks for accelerated MRI, arXiv:1811.08839; "
        "Knoll et al., Radiology: Artificial Intelligence 2:e190007, 2020."
    ),
    layout="""\
multicoil_train/file_brain_AXT1_202_2020001.h5
multicoil_val/file_brain_AXT2_200_2000002.h5""",
    contrasts=tuple(WORDS),
    site_key="the three-digit number in the file's name (200 to 210); what it means is not documented",
    find=find,
    unpaired="a file holds one contrast of one examination, and nothing says which files are of one person",
    traps=(
        "No two files are known to be of one person, so no task `A->B` can be learnt from these files alone.",
        "`polysite predict` takes a file as IN.",
        "What is read is `reconstruction_rss`; the test set has none and is skipped.",
        "No orientation is stored: axes are the file's own (columns, rows, slices).",
        "The voxel size is that of the ISMRMRD header (`reconSpace`); the gap between slices is not in it.",
    ),
)
