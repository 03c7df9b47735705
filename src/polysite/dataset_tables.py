"""Tables of public data sets for the terminal: which there are, and what a folder holds of one."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polysite.data.datasets.dataset import SITE, Dataset, Found


def datasets_table(datasets: Sequence[Dataset]) -> Table:
    """The public data sets, and the first file that is expected of each."""
    table = Table("format", "data set", "images", "labels", "expected below ROOT, for example", box=None)
    for dataset in datasets:
        cells = (
            dataset.name,
            dataset.title.split(" (")[0],
            " ".join(dataset.contrasts),
            " ".join(dataset.labels) or "–",
            dataset.layout.splitlines()[0].split("  ")[0],
        )
        table.add_row(*map(escape, cells))
    return table


def found_table(dataset: Dataset, found: Found) -> Table:
    """How much there is at each site: subjects, visits, images of each contrast, images with labels."""
    table = Table(box=None)
    table.add_column("site")
    for title in ("subjects", "visits", *dataset.contrasts, "labelled"):
        table.add_column(title, justify="right")
    for site in sorted({visit.site for visit in found.visits}):
        visits = [visit for visit in found.visits if visit.site == site]
        n_images = Counter(name for visit in visits for name in visit.images)
        numbers = [
            len({visit.subject for visit in visits}),
            len(visits),
            *(n_images[name] for name in dataset.contrasts),
            sum(len(visit.labels) for visit in visits),
        ]
        table.add_row(escape(site), *map(str, numbers))
    return table


def facts_table(found: Found) -> Table:
    """The keys that `where` may name, each with its most frequent values."""
    table = Table("where", "values (visits)", box=None)
    for key in found.keys:
        counts = Counter(value for visit in found.visits if (value := visit.value(key)))
        values = [f"{value} ({n})" for value, n in counts.most_common(8)]
        name = f"{key} (this is the site key)" if key == SITE else key
        table.add_row(name, escape(", ".join(values) + (", …" if len(counts) > len(values) else "")))
    return table


def skipped_table(found: Found, root: Path) -> Table:
    """What was skipped, and why; the first 50."""
    table = Table("skipped", "why", box=None)
    for skipped in found.skipped[:50]:
        path = skipped.path.relative_to(root) if skipped.path.is_relative_to(root) else skipped.path
        table.add_row(escape(str(path)), escape(skipped.reason))
    if len(found.skipped) > 50:
        table.add_row("…", f"and {len(found.skipped) - 50} more")
    return table
