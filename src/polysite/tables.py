"""Tables for the terminal: scores, prepared cases, audit logs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from polysite.data.cache import PreparedCase
from polysite.data.quality import doubts
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


def doubts_table(cases: Sequence[PreparedCase]) -> Table | None:
    """The cases that should be looked at and why; None if nothing speaks against any."""
    table = Table(box=None, pad_edge=False)
    for title in ("site", "case", "contrast", "look at it, because"):
        table.add_column(title)
    for case, reasons in zip(cases, doubts(cases), strict=True):
        for doubt in reasons:
            table.add_row(case.site, case.key, doubt.contrast, escape(doubt.reason))
    return table if table.rows else None


def audit_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """An audit log's lines: when, which way, what, and how much."""
    table = Table(box=None, pad_edge=False)
    for title in ("line", "time", "", "peer", "kind", "round", "tensors", "bytes", "sha256"):
        table.add_column(title, justify="right" if title in ("line", "round", "tensors", "bytes") else "left")
    for record in records:
        known = "kind" in record
        table.add_row(
            str(record["n"] + 1),
            str(record["time"])[:19],
            str(record["event"]),
            escape(str(record.get("peer", ""))),
            escape(str(record.get("kind") or record.get("reason", ""))),
            str(record["round"]) if known else "",
            str(len(record["tensors"])) if known else "",
            f"{record['bytes']:,}" if "bytes" in record else "",
            str(record.get("sha256", ""))[:12],
        )
    return table
