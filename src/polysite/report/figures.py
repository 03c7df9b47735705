"""Figures as inline SVG that takes its colours and its font from the page, light or dark.

Matplotlib draws in placeholder colours, which become CSS variables. Text stays text: it is sharp, can be
selected, and is escaped by matplotlib's SVG writer.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from polysite.evaluate.compare import Comparison
from polysite.evaluate.kinds import METRICS
from polysite.report.words import task_text

INK, MUTED, LINE = "#0a0b01", "#0a0b02", "#0a0b03"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)"}
_METHOD = "#0a0c{:02x}"
N_COLOURS = 10
MARKERS = "osD^vPXhp*"
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "polysite",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def colour(index: int) -> str:
    """The placeholder of the method with this index; on the page it is ``var(--m<index>)``."""
    return _METHOD.format(index % N_COLOURS)


def difference_panel(
    comparisons: Sequence[Comparison], methods: Mapping[str, int], limits: tuple[float, float]
) -> Markup:
    """One site: a dot for each subject's paired difference, the mean and its interval for each method.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of one site, all against the same baseline.
    methods : mapping of method to colour index
    limits : (float, float)
        Of the axis in the metric's unit, the same at all sites.
    """
    tasks = list(dict.fromkeys(found.task for found in comparisons))
    n_rows = len(comparisons) + sum(task is not None for task in tasks)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 0.62 + 0.25 * n_rows), layout="constrained")
        axes = figure.add_subplot()
        ticks: list[tuple[float, str]] = []
        at = 0.0
        for task in tasks:
            if task is not None:
                axes.text(0, at, task_text(task), transform=axes.get_yaxis_transform(), **_HEADING)
                at += 1
            for found in (found for found in comparisons if found.task == task):
                _difference(axes, found, at, methods[found.method])
                ticks.append((at, found.method))
                at += 1
        axes.axvline(0, color=MUTED, linewidth=1)
        metric, baseline = METRICS[comparisons[0].metric], comparisons[0].baseline
        unit = f" [{metric.unit}]" if metric.unit else ""
        axes.set(xlim=limits, ylim=(at - 0.4, -0.7), xlabel=f"{metric.label} minus that of {baseline}{unit}")
        axes.set_yticks([place for place, _ in ticks], [text for _, text in ticks])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        return _svg(figure)


_HEADING: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "color": MUTED, "va": "center", "ha": "left"}


def _difference(axes: Axes, found: Comparison, at: float, index: int) -> None:
    values = np.sort([*found.differences.values()])
    # spread in a fixed pattern, so that equal values do not hide one another and nothing is random
    spread = 0.22 * ((np.arange(values.size) * 0.618) % 1 - 0.5)
    axes.scatter(values, at + spread, s=9, color=colour(index), alpha=0.4, linewidths=0)
    interval = found.interval
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [at, at], color=colour(index), linewidth=2.4)
    marker = MARKERS[index % len(MARKERS)]
    axes.plot(interval.mean, at, marker=marker, color=colour(index), markersize=6.5)


def difference_limits(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Limits that show every subject at every site, and zero."""
    values = [0.0]
    for found in comparisons:
        values.extend(found.differences.values())
        values.extend(edge for edge in (found.interval.low, found.interval.high) if edge is not None)
    margin = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


Curves = Mapping[str, Sequence[Sequence[tuple[int, float]]]]


def curve_panel(curves: Curves, methods: Mapping[str, int], *, label: str, title: str) -> Markup:
    """One value of one site over rounds: a thin line for each seed, a thick one for their mean.

    Parameters
    ----------
    curves : mapping of method to runs
        A run is a list of (round from 0, value).
    methods : mapping of method to colour index
    label, title : str
        Of the vertical axis and of the panel.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.1, 2.1), layout="constrained")
        axes = figure.add_subplot()
        for method, runs in curves.items():
            index = methods[method]
            look: dict[str, Any] = {"color": colour(index), "linestyle": DASHES[index % len(DASHES)]}
            by_round: dict[int, list[float]] = {}
            for run in runs:
                for round_, value in run:
                    by_round.setdefault(round_ + 1, []).append(value)
                if len(runs) > 1:
                    axes.plot([r + 1 for r, _ in run], [v for _, v in run], linewidth=0.7, alpha=0.35, **look)
            rounds = sorted(by_round)
            means = [float(np.mean(by_round[round_])) for round_ in rounds]
            dot = MARKERS[index % len(MARKERS)] if len(rounds) == 1 else None
            axes.plot(rounds, means, linewidth=1.7, marker=dot, **look)
        axes.set_title(title, fontsize=9, fontweight="bold", loc="left", color=INK)
        axes.set(xlabel="round", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        return _svg(figure)


def forest_axis(limits: tuple[float, float]) -> Markup:
    """The axis of such pictures, for the head of their column."""
    ticks = [tick for tick in MaxNLocator(nbins=4).tick_values(*limits) if limits[0] <= tick <= limits[1]]
    span = limits[1] - limits[0]
    texts = (f'<text x="{150 * (tick - limits[0]) / span:.1f}" y="14">{tick:g}</text>' for tick in ticks)
    return Markup(f'<svg class="forest" viewBox="0 0 150 18" aria-hidden="true">{"".join(texts)}</svg>')


def forest(found: Comparison, limits: tuple[float, float]) -> Markup:
    """A difference with its interval as a small picture for a table's cell."""
    width, height = 150.0, 18.0

    def place(value: float) -> float:
        return width * (value - limits[0]) / (limits[1] - limits[0])

    parts = [f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height:.0f}"/>']
    if found.interval.low is not None and found.interval.high is not None:
        low, high = place(found.interval.low), place(found.interval.high)
        parts.append(f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="9" y2="9"/>')
    parts.append(f'<circle cx="{place(found.interval.mean):.1f}" cy="9" r="4"/>')
    return Markup(
        f'<svg class="forest" viewBox="0 0 {width:.0f} {height:.0f}" aria-hidden="true">{"".join(parts)}</svg>'
    )


def _svg(figure: Figure) -> Markup:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    # the size is the page's to choose; the viewBox keeps the proportions
    text = re.sub(r'^<svg width="[^"]*" height="[^"]*"', "<svg", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    text = re.sub(r"#0a0c0([0-9])", r"var(--m\1)", text)
    return Markup(text)
