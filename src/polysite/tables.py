"""Tables of scores for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from polysite.data.cache import PreparedCase
from polysite.evaluate.summary import SummaryRow

METRICS = {"psnr_db": ("PSNR (dB)", 2), "ssim": ("SSIM", 3), "nrmse": ("NRMSE", 3)}


def summary_table(rows: Sequence[SummaryRow]) -> Table:
    """Rows as a table: mean and 95 % interval over subjects; the best method of a group is bold."""
    table = Table(box=None, pad_edge=False)
    for title in ("site", "task", "method", "subjects", *(title for title, _ in METRICS.values())):
        table.add_column(title, justify="left" if title in ("site", "task", "method") else "right")
    group = None
    for row in rows:
        new = (row.site, row.task) != group
        group = (row.site, row.task)
        table.add_row(
            row.site if new else "",
            (row.task or "all") if new else "",
            row.method,
            str(row.n_subjects),
            *(_cell(row, name, digits) for name, (_, digits) in METRICS.items()),
        )
    return table


def _cell(row: SummaryRow, metric: str, digits: int) -> str:
    interval = row.metrics[metric]
    text = f"{interval.mean:.{digits}f}"
    if interval.low is not None:
        text += f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return (
        f"[bold]{text.replace('[', chr(92) + '[')}[/bold]" if metric in row.best else text.replace("[", "\\[")
    )


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
