"""M&Ms-2: cine hearts from three vendors, end-diastole and end-systole as files of their own."""

from pathlib import Path

from polysite.data.datasets.dataset import Dataset, Found, Skipped, Visit
from polysite.data.datasets.folder import files_below, grouped
from polysite.data.datasets.texts import table_with
from polysite.errors import DataError

FACTS = {"disease": "DISEASE", "scanner": "SCANNER", "field": "FIELD"}
NEEDED = ("SUBJECT_CODE", "VENDOR")
SPLITS = (("training", 160), ("validation", 200), ("testing", 360))
"""The official split: names, and the last subject of each."""


def find(root: Path) -> Found:
    """A visit a row of the table: the short-axis stacks (names without ``SA`` are taken as such)."""
    folder = files_below(root)
    groups = grouped(folder, r"(?P<key>\d{1,3})_(SA_)?(?P<kind>(ED|ES)(_gt)?)\.nii(\.gz)?")
    of_number = {int(key): group for key, group in groups.items()}
    found = table_with(folder, NEEDED)
    if found is None:
        raise DataError(
            f"{root}: no table of M&Ms-2: dataset_information.csv with the columns {', '.join(NEEDED)}; give the "
            "folder that holds it, MnM2"
        )
    table, rows = found
    visits: list[Visit] = []
    skipped = list(folder.skipped)
    for row in rows:
        code = row["SUBJECT_CODE"].removesuffix(".0")
        group = of_number.pop(int(code), None) if code.isdigit() else None
        images = group.under((name, name) for name in ("ED", "ES")) if group else {}
        if group is None or not images:
            skipped.append(Skipped(table, f"subject {row['SUBJECT_CODE']!r} has no image"))
            continue
        labels = group.under((name, f"{name}_gt") for name in images)
        facts = {name: row.get(column, "") for name, column in FACTS.items()}
        facts["set"] = next((name for name, last in SPLITS if int(code) <= last), "other")
        visits.append(
            Visit(code.zfill(3), None, row["VENDOR"], images, labels, facts=facts, notes=group.notes)
        )
    for group in of_number.values():
        path = group.first
        skipped.append(Skipped(path, f"is not in {table.name}, so its vendor is not known"))
    return Found(tuple(sorted(visits, key=lambda visit: visit.subject)), tuple(skipped))


MNMS2 = Dataset(
    name="mnms2",
    title="M&Ms-2 (Multi-Disease, Multi-View & Multi-Center Right Ventricular Segmentation)",
    url="https://www.ub.edu/mnms-2/",
    access="Registration at the home page.",
    licence="given with the data after registration",
    citation=(
        "Martín-Isla et al., Deep learning segmentation of the right ventricle in cardiac MRI: the M&Ms challenge, "
        "IEEE JBHI 27:3302-3313, 2023."
    ),
    layout="""\
dataset_information.csv
dataset/001/001_SA_ED.nii.gz, 001_SA_ED_gt.nii.gz, 001_SA_ES.nii.gz, 001_SA_ES_gt.nii.gz""",
    contrasts=("ED", "ES"),
    site_key="the column VENDOR: SIEMENS, Philips Medical Systems or GE MEDICAL SYSTEMS",
    find=find,
    labels={"LV": 1, "MYO": 2, "RV": 3},
    sites=("SIEMENS", "Philips Medical Systems", "GE MEDICAL SYSTEMS"),
    traps=(
        "The table ends in empty rows, and its numbers have no leading zeros where folders do.",
        "Some copies call the short-axis files `001_ED.nii.gz`: they are taken.",
        "Long-axis views (LA, one slice) and the whole cine (CINE) are not used.",
        "The official split is by number: 1 to 160 training, 161 to 200 validation, 201 to 360 testing "
        "(`where: {set: training}`).",
    ),
)
