"""EMIDEC: late enhancement of hearts with and without infarction, from one hospital."""

import re
from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.data.datasets.folder import files_below, grouped
from polysite.data.datasets.texts import pairs_of, text_of

PATTERN = r"Case_(?P<key>[NP]?\d+)/(?P<kind>Images|Contours)/Case_(?P=key)\.nii(\.gz)?"
GROUPS = {"N": "normal", "P": "pathological"}


def find(root: Path) -> Found:
    """A visit a case; what its text file says becomes its facts."""
    folder = files_below(root)
    texts = {path.stem.replace("_", " "): path for path in folder.named(r"Case[ _].+\.txt")}
    visits = []
    for key, group in grouped(folder, PATTERN).items():
        images = group.under([("LGE", "Images")])
        labels = group.under([("LGE", "Contours")])
        facts = {"group": GROUPS[key[0]]} if key[0] in GROUPS else {}
        facts |= facts_of(texts.get(f"Case {key}"))
        if images:
            visits.append(Visit(key, None, "Dijon", images, labels, facts=facts, notes=group.notes))
    return Found(tuple(visits), folder.skipped)


def facts_of(path: Path | None) -> dict[str, str]:
    """The lines ``Key : value`` of a case's text, which is not UTF-8; a dagger behind a key is left out."""
    pairs = pairs_of(text_of(path, "latin-1"))
    facts = {re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_"): value for key, value in pairs.items()}
    return {key: value for key, value in facts.items() if key and value}


EMIDEC = Dataset(
    name="emidec",
    title="EMIDEC (automatic evaluation of myocardial infarction from delayed-enhancement cardiac MRI)",
    url="https://emidec.com/dataset",
    access="Registration at the home page.",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Lalande et al., Emidec: a database usable for the automatic evaluation of myocardial infarction from "
        "delayed-enhancement cardiac MRI, Data 5:89, 2020."
    ),
    layout="""\
Case_N006/Images/Case_N006.nii.gz
Case_N006/Contours/Case_N006.nii.gz
Case N006.txt""",
    contrasts=("LGE",),
    site_key="one site: the hospital in Dijon",
    find=find,
    labels={"LV": 1, "MYO": 2, "infarct": 3, "no-reflow": 4},
    sites=("Dijon",),
    traps=(
        "The sform has unit scale; the voxel size stands in pixdim. Images and labels are mended when they are read.",
        "MYO (2) is the healthy part alone: the whole muscle is 2, 3 and 4. Write `MYO: [2, 3, 4]` to learn it as one.",
        "There is no label of the right ventricle.",
        "Normal cases (N) have no infarct, and many others no no-reflow.",
        "The text beside a case has a space in its name where the folder has an underscore, and is not UTF-8.",
        "The test set (Images only) is found too: without labels it is neither trained on nor scored.",
    ),
)
