"""M&Ms: cine hearts from six centres and four vendors, one 4-D file a person, labelled at two frames."""

from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Skipped, Visit
from polysite.data.datasets.folder import Folder, Group, files_below, grouped
from polysite.data.datasets.texts import table_with
from polysite.errors import DataError

FACTS = {
    "vendor": "Vendor",
    "vendor_name": "VendorName",
    "pathology": "Pathology",
    "sex": "Sex",
    "age": "Age",
}
NEEDED = ("External code", "Centre", "ED", "ES")
SETS = ("training", "validation", "testing")


def find(root: Path) -> Found:
    """A visit a row of the table; label images are sought in all splits."""
    folder = files_below(root)
    groups = grouped(folder, r"(?P<key>[A-Z0-9]{6})_(?P<kind>sa|sa_gt)\.nii(\.gz)?")
    visits: list[Visit] = []
    skipped = list(folder.skipped)
    table, rows = table_of(folder)
    for row in rows:
        group = groups.pop(row["External code"], Group({}, ()))
        found = visit_of(folder, row, group)
        if isinstance(found, Visit):
            visits.append(found)
        else:
            skipped.append(Skipped(group.files.get("sa", table), f"{row['External code']}: {found}"))
    for code, group in groups.items():
        path = group.first
        skipped.append(Skipped(path, f"{code} is not in {table.name}, so its frames are not known"))
    return Found(tuple(sorted(visits, key=lambda visit: visit.subject)), tuple(skipped))


def table_of(folder: Folder) -> tuple[Path, list[dict[str, str]]]:
    """The table that names centres and frames.

    Raises
    ------
    DataError
        If there is none, or only the Excel file of the old release.
    """
    if found := table_with(folder, NEEDED):
        return found
    excel = folder.named(r".*M&?Ms.*\.xlsx?")
    if excel:
        raise DataError(
            f"{excel[0]}: is the table of the old release, and Excel is not read; save it as CSV (UTF-8) beside it"
        )
    raise DataError(
        f"{folder.root}: no table of M&Ms: a CSV file with the columns {', '.join(NEEDED)}; "
        "give the folder that holds it, OpenDataset"
    )


def visit_of(folder: Folder, row: dict[str, str], group: Group) -> Visit | str:
    """A row's visit, or why there is none."""
    image, label = group.files.get("sa"), group.files.get("sa_gt")
    if image is None:
        return "has a row in the table and no image"
    where = [part.lower() for part in Path(folder.below(image)).parts]
    unlabelled = "is one of the unlabelled scans; a file _gt beside it, if there is one, is no label image"
    if {"unlabeled", "unlabelled"} & set(where):
        return unlabelled
    try:
        frames = {name: whole(row[name]) for name in ("ED", "ES")}
    except ValueError:
        return f"its frames are ED {row['ED']!r} and ES {row['ES']!r}, not whole numbers from 0"
    if set(frames.values()) == {0}:
        return unlabelled
    facts = {name: row.get(column, "") for name, column in FACTS.items()} | {
        "set": folder.inside(image, SETS)
    }
    labels = dict.fromkeys(frames, label) if label else {}
    site = row["Centre"].removesuffix(".0")
    return Visit(
        row["External code"], None, site, dict.fromkeys(frames, image), labels, frames, facts, group.notes
    )


def whole(text: str) -> int:
    """A frame's number; spreadsheets write 9 as 9.0."""
    number = int(text.removesuffix(".0"))
    if number < 0:
        raise ValueError(text)
    return number


MNMS = Dataset(
    name="mnms",
    title="M&Ms (Multi-Centre, Multi-Vendor & Multi-Disease Cardiac Image Segmentation Challenge)",
    url="https://www.ub.edu/mnms/",
    access="Registration at the home page.",
    licence="given with the data after registration",
    citation=(
        "Campello et al., Multi-centre, multi-vendor and multi-disease cardiac segmentation: the M&Ms challenge, "
        "IEEE TMI 40:3543-3554, 2021."
    ),
    layout="""\
211230_M&Ms_Dataset_information_diagnosis_opendataset.csv
Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz and A0S9V9_sa_gt.nii.gz
Validation/… and Testing/… likewise""",
    contrasts=("ED", "ES"),
    site_key='the column Centre, a number: in quotes, `site: "1"`',
    find=find,
    labels={"LV": 1, "MYO": 2, "RV": 3},
    sites=("1", "2", "3", "4", "5"),
    traps=(
        "LV is 1 and RV is 3; in ACDC it is the other way round.",
        "Files are 4-D and labelled at two frames, which the table counts from 0. ED is often not the first.",
        "Scans in `Training/Unlabeled` have ED = ES = 0; files `_gt` beside them are no masks: they are skipped.",
        "A label image may lie in another split than its image: it is sought in all.",
        "The fifth centre has two names in publications; sites are told apart by number.",
        "Directions in some headers are not orthonormal; they are read as they are.",
        "The old release comes with an Excel file: save it as CSV beside it.",
    ),
)
