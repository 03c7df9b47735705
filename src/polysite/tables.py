"""Tables for the terminal: scores, registrations, public data sets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polysite.data.cache import PreparedCase
from polysite.data.datasets.dataset import SITE, Dataset, Found
from polysite.evaluate.kinds import KINDS, METRICS, Metric
from polysite.evaluate.summary import SummaryRow


def summary_table(rows: Sequence[SummaryRow]) -> Table:
    """Rows as a table: mean and 95 % interval over subjects; the best method of a group is bold.

    A mean for which some subjects' value is not defined says over how many it is taken.
    """
    metrics = [metric for name, metric in METRICS.items() if any(name in row.metrics for row in rows)]
    part = next((kind.part for kind in KINDS.values() if kind.metrics[0] in metrics), "task")
    table = Table(box=None, pad_edge=False)
    titles = (f"{metric.label} ({metric.unit})" if metric.unit else metric.label for metric in metrics)
    for title in ("site", part, "method", "subjects", *titles):
        table.add_column(title, justify="left" if title in ("site", part, "method") else "right")
    group = None
    for row in rows:
        new = (row.site, row.task) != group
        group = (row.site, row.task)
        table.add_row(
            row.site if new else "",
            (row.task or "all") if new else "",
            row.method,
            str(row.n_subjects),
            *(_cell(row, metric) for metric in metrics),
        )
    return table


def _cell(row: SummaryRow, metric: Metric) -> str:
    interval = row.metrics.get(metric.name)
    if interval is None:
        return "–"
    text = f"{interval.mean:.{metric.digits}f}"
    if interval.low is not None:
        text += f" [{interval.low:.{metric.digits}f}, {interval.high:.{metric.digits}f}]"
    if interval.n < row.n_subjects:
        text += f", n = {interval.n}"
    text = text.replace("[", "\\[")
    return f"[bold]{text}[/bold]" if metric.name in row.best else text


def registration_table(cases: Sequence[PreparedCase]) -> Table | None:
    """How each registered contrast moved and what its mutual information (nats) gained; None if none was."""
    table = Table(box=None, pad_edge=False)
    for title in (
        "site",
        "case",
        "registered",
        "moved (mm)",
        "turned (°)",
        "information",
        "covered",
        "warning",
    ):
        table.add_column(
            title, justify="left" if title in ("site", "case", "registered", "warning") else "right"
        )
    for case in cases:
        for contrast, steps in case.record["steps"].items():
            moved = steps["registration"]
            if moved is None:
                continue
            table.add_row(
                case.site,
                case.key,
                f"{contrast} to {case.reference}",
                f"{moved['shift_mm']:.1f}",
                f"{moved['rotation_degrees']:.1f}",
                f"{moved['information_before']:.3f} -> {moved['information_after']:.3f}",
                f"{100 * steps['reach']:.0f} %",
                moved["warning"] or "",
            )
    return table if table.rows else None


def plain_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Texts as a table; nothing in them is taken for markup."""
    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


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
