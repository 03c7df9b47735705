"""BraTS and FeTS: heads with a glioma, four contrasts on one grid; ET is 4 until 2022 and 3 since."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Visit
from polysite.data.datasets.folder import Folder, files_below, grouped, together
from polysite.data.participants import read_table

UNKNOWN = "unknown"
OLD = r"(?P<key>(Bra[tT][sS](17|18|19|20|2021)|FeTS\d+)_\w+?)_(?P<kind>t1|t1ce|t2|flair|seg)\.nii(\.gz)?"
NEW = r"(?P<key>BraTS-GLI-\d+-\d+)-(?P<kind>t1n|t1c|t2w|t2f|seg)\.nii(\.gz)?"
OLD_WORDS = {"T1w": "t1", "T1ce": "t1ce", "T2w": "t2", "FLAIR": "flair"}
NEW_WORDS = {"T1w": "t1n", "T1ce": "t1c", "T2w": "t2w", "FLAIR": "t2f"}
MISNAMED_MASK = ("BraTS20_Training_355", r"W39_1998\.09\.19_Segm\.nii(\.gz)?")
"""A case of 2020 whose mask kept the name that it had before."""


def institution(case: str) -> str:
    """The institution in a name of 2017 to 2019.

    >>> institution("Brats18_TCIA01_131_1"), institution("BraTS20_Training_001")
    ('TCIA01', 'unknown')
    """
    match = re.fullmatch(r"bra?ts1[789]_([^_]+)_.+", case, re.IGNORECASE)
    return match[1] if match else UNKNOWN


def known_of(folder: Folder) -> dict[str, dict[str, str]]:
    """Case to what the tables of a release say of it: its site and facts."""
    known: dict[str, dict[str, str]] = {}
    for path in folder.named(r"name_mapping\w*\.csv"):
        for row in read_table(path, ","):
            earlier = (row.get(f"BraTS_{year}_subject_ID", "") for year in (2019, 2018, 2017))
            sites = [site for site in map(institution, earlier) if site != UNKNOWN]
            facts = {"site": sites[0] if sites else "", "grade": row.get("Grade", "")}
            known[row.get("BraTS_2020_subject_ID", "")] = facts
    for number in (1, 2):
        for path in folder.named(rf"partitioning_{number}\.csv"):
            for row in read_table(path, ","):
                case = row.get("Subject_ID") or row.get("Subject", "")
                key = "site" if number == 1 else "partition_2"
                known.setdefault(case, {})[key] = row.get("Partition_ID", "")
    return known


def find(root: Path, pattern: str, words: Mapping[str, str], other: str, remark: str) -> Found:
    """A visit a case; of 2023 the last number of a name is the patient's time point."""
    folder = files_below(root)
    known = known_of(folder)
    masks = {
        path.parent.name: path
        for path in folder.named(MISNAMED_MASK[1])
        if path.parent.name == MISNAMED_MASK[0]
    }
    visits = []
    for case, group in grouped(folder, pattern).items():
        images = group.under(words.items())
        mask = group.files.get("seg") or masks.get(case)
        grade = folder.inside(group.first, ("HGG", "LGG"))
        facts = {"release": re.split("[_-]", case)[0], "grade": grade, **known.get(case, {})}
        site = facts.pop("site", "") or institution(case)
        subject, session = case, None
        if match := re.fullmatch(r"(BraTS-GLI-\d+)-(\d+)", case):
            subject, session = match[1], match[2]
        labels = dict.fromkeys(images, mask) if mask else {}
        visits.append(Visit(subject, session, site, images, labels, facts=facts, notes=group.notes))
    stray = [path for path in folder.files if re.fullmatch(other, path.name)]
    return Found(tuple(visits), (*folder.skipped, *together(stray, remark)))


BRATS = Dataset(
    name="brats",
    title="BraTS 2017 to 2021 and FeTS 2022 (brain tumour segmentation)",
    url="https://www.med.upenn.edu/cbica/brats/",
    access="Registration at Synapse (synapse.org). Unpack one release below a folder, with its CSV tables.",
    licence="free for research with the citations; the terms are those of the release at Synapse",
    citation=(
        "Menze et al., The multimodal brain tumor image segmentation benchmark (BRATS), IEEE TMI 34:1993-2024, 2015; "
        "Bakas et al., Scientific Data 4:170117, 2017. FeTS also: Pati et al., The Federated Tumor Segmentation "
        "(FeTS) challenge, arXiv:2105.05874."
    ),
    layout="""\
HGG/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_t1.nii.gz            (t1, t1ce, t2, flair, seg; also LGG, BraTS19)
BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz              (with name_mapping.csv)
BraTS2021_00000/BraTS2021_00000_t1.nii.gz
FeTS2022_00000/FeTS2022_00000_t1.nii.gz                          (with partitioning_1.csv)""",
    contrasts=tuple(OLD_WORDS),
    site_key="the institution: in names of 2018 and 2019, for 2020 from name_mapping.csv, for FeTS the Partition_ID of "
    "partitioning_1.csv; otherwise `unknown`",
    find=partial(
        find,
        pattern=OLD,
        words=OLD_WORDS,
        other=NEW,
        remark="names of BraTS 2023, where ET is 3: `brats2023` reads them",
    ),
    labels={"NCR": 1, "ED": 2, "ET": 4},
    pair=("T1w", "T2w"),
    traps=(
        "The enhancing tumour (ET) is 4; there is no 3. From 2023 on it is 3: that is the data set `brats2023`.",
        "The mask of BraTS20_Training_355 is called `W39_1998.09.19_Segm.nii`; it is found.",
        "Copies hold `.nii` or `.nii.gz`; both are read.",
        "Without its table every case of 2020 and of FeTS is of site `unknown`. No public table names the "
        "institutions of 2021.",
        "The same patients are in several releases under other names: use one release.",
        "Volumes are skull-stripped and lie on one grid of 1 mm.",
    ),
)

BRATS2023 = Dataset(
    name="brats2023",
    title="BraTS 2023 and 2024, adult glioma (GLI)",
    url="https://www.synapse.org/Synapse:syn51156910",
    access="Registration at Synapse (synapse.org).",
    licence="free for research with the citations; the terms are those of the release at Synapse",
    citation=(
        "Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark on brain tumor segmentation and radiogenomic "
        "classification, arXiv:2107.02314; Menze et al., IEEE TMI 34:1993-2024, 2015."
    ),
    layout="BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz               (t1n, t1c, t2w, t2f, seg)",
    contrasts=tuple(NEW_WORDS),
    site_key="not told by the files: `unknown`",
    find=partial(
        find,
        pattern=NEW,
        words=NEW_WORDS,
        other=OLD,
        remark="names of BraTS before 2023, where ET is 4: `brats` reads them",
    ),
    labels={"NCR": 1, "ED": 2, "ET": 3},
    sites=(UNKNOWN,),
    pair=("T1w", "T2w"),
    traps=(
        "The enhancing tumour (ET) is 3; until 2022 it was 4. In 2024 there is also 4, the resection cavity.",
        "The last number of a name is the patient's time point: it becomes the session, and splits are by patient.",
        "File names have hyphens where those before 2023 have underscores.",
    ),
)
