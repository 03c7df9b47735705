"""The report: one self-contained HTML page from the files of finished, or unfinished, runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

import polysite
from polysite.errors import DataError
from polysite.evaluate.kinds import KINDS
from polysite.evaluate.summary import overview
from polysite.evaluate.table import Score, kind_of, replace_text
from polysite.report import words
from polysite.report.answer import DESCRIPTIONS, Answer, answer, main_method, order_methods
from polysite.report.examples import error_gradient, picture_rows
from polysite.report.figures import (
    N_COLOURS,
    curve_panel,
    difference_limits,
    difference_panel,
    forest,
    forest_axis,
)
from polysite.report.limits import limits, scoring
from polysite.report.outlines import outline_figures
from polysite.report.parts import put_together
from polysite.report.run_folder import RunFolder, read_run
from polysite.report.settings import SPLITS, differing, flatten, split_counts
from polysite.report.template import rendered
from polysite.report.travel import travel
from polysite.report.wording import WORDINGS

MAX_PANELS = 12
"""Sites that are drawn; tables have all of them."""

CURVES = {
    ("validation", "psnr_db"): "validation PSNR [dB]",
    ("validation", "dice"): "validation Dice",
    ("validation", "l1"): "validation L1",
    ("losses", "segmentation"): "training loss",
    ("losses", "dice_loss"): "training Dice loss",
    ("losses", "l1"): "training L1",
    ("losses", "adversarial"): "adversarial loss",
    ("losses", "generator"): "generator loss",
    ("losses", "discriminator"): "discriminator loss",
}


def build_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of one or more runs.

    Parameters
    ----------
    runs : sequence of Path
        Run folders: methods and seeds of one study; the folders of one run at its hospitals count as one. A run
        without scores, or unfinished, is reported as that.
    out : Path
        The HTML file, replaced as a whole.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    DataError
        If a folder is no run, a file in it is damaged, two runs score the same volumes under one name, or
        ``out`` cannot be written.
    """
    if not runs:
        raise DataError("no run is given; name at least one folder that `polysite train --out` wrote")
    folders = put_together([read_run(path) for path in dict.fromkeys(runs)])
    filters = {
        "number": words.number,
        "signed": words.signed,
        "interval": words.interval_text,
        "p": words.p_text,
        "bytes": words.bytes_text,
        "task": words.task_text,
        "by_site": by_site,
    }
    replace_text(out, rendered("report.html", ("report.css",), filters, _content(folders)))
    return out


def _content(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Everything that the template shows."""
    scores = _scores(runs)
    kind = kind_of(scores) if scores else KINDS.get(runs[0].task, KINDS["synthesis"])
    algorithms = {run.method: run.algorithm for run in runs}
    for row in scores:
        algorithms.setdefault(row.method, row.method.partition("-")[0])
    methods = order_methods(algorithms)
    scored = {method: algorithms[method] for method in methods if any(row.method == method for row in scores)}
    # the scores in the order of the columns, so that every table has it
    scores.sort(key=lambda row: methods.index(row.method))
    colours = {method: index for index, method in enumerate(methods)}
    first = _first_of_each_method(runs)
    found = answer(scores, scored) if scores else None
    references = {method for method in methods if algorithms[method] == "central"}
    rows = overview(scores, references=references)
    sites = list(dict.fromkeys(site for run in runs for site in run.sites))
    return {
        "version": polysite.__version__,
        "runs": runs,
        "methods": [
            {
                "name": method,
                "index": colours[method] % N_COLOURS,
                "text": DESCRIPTIONS.get(algorithms[method], f"algorithm `{algorithms[method]}`"),
                "seeds": sorted({run.seed for run in runs if run.method == method and run.seed is not None}),
            }
            for method in methods
        ],
        "colours": {method: index % N_COLOURS for method, index in colours.items()},
        "notes": [(run.path.name, note) for run in runs for note in run.notes],
        "scoring": scoring(runs),
        "answer": found,
        "main": main_method(algorithms),
        "kind": kind,
        "metric": kind.main,
        "wording": WORDINGS[kind.name],
        "forest": forest,
        "forest_axis": forest_axis,
        "edges": difference_limits([*found.by_site, *found.against_average]) if found else (0.0, 1.0),
        "part_edges": difference_limits(found.by_part) if found else (0.0, 1.0),
        "references": [method for method in methods if method in references],
        "rows": rows,
        "metrics": kind.metrics,
        "differences": _difference_panels(found, colours) if found else [],
        "curves": _curve_panels(runs, methods, sites, colours),
        "max_panels": MAX_PANELS,
        "pictures": picture_rows({run.method: run.examples for run in first}, methods, sites),
        "gradient": error_gradient(),
        "outlines": outline_figures({run.method: run.outlines for run in first}, methods, sites),
        "travels": [travel(run) for run in first],
        "config_run": first[0],
        "config_names": [run.method for run in first],
        # the label is the column's head already
        "config_differences": [row for row in differing([run.config for run in first]) if row[0] != "label"],
        "splits": [(run, split_counts(run)) for run in first[:1]],
        "split_names": SPLITS,
        "splits_differ": len({str(run.splits) for run in runs if run.splits}) > 1,
        "environment": flatten(first[0].environment) if first[0].environment else {},
        "environment_differences": differing([run.environment for run in runs if run.environment]),
        "limits": limits(runs, kind),
    }


def _scores(runs: Sequence[RunFolder]) -> list[Score]:
    """All scores; the same volume under the same name in two runs is an error."""
    owner: dict[tuple[object, ...], RunFolder] = {}
    for run in runs:
        for row in run.scores:
            if row.key in owner:
                raise DataError(
                    f"{owner[row.key].path} and {run.path} both score {row.subject} at {row.site} as method "
                    f"{row.method!r} with seed {row.seed}; leave one out, or give one another `label` and "
                    "evaluate it again"
                )
            owner[row.key] = run
    return [row for run in runs for row in run.scores]


def _first_of_each_method(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """The run with the lowest seed for each method, in the methods' order."""
    chosen: dict[str, RunFolder] = {}
    for run in sorted(runs, key=lambda run: run.seed if run.seed is not None else -1):
        chosen.setdefault(run.method, run)
    order = order_methods({method: run.algorithm for method, run in chosen.items()})
    return [chosen[method] for method in order]


def by_site(items: Iterable[Any]) -> dict[str, dict[str, list[Any]]]:
    """Rows or comparisons by site and then by task, in the order of their appearance."""
    groups: dict[str, dict[str, list[Any]]] = {}
    for item in items:
        groups.setdefault(item.site, {}).setdefault(item.task, []).append(item)
    return groups


def _difference_panels(found: Answer, colours: dict[str, int]) -> list[tuple[str, Markup]]:
    comparisons = [*found.others, *found.by_site]
    if not comparisons:
        return []
    comparisons.sort(key=lambda item: colours[item.method])
    edges = difference_limits(comparisons)
    sites = list(dict.fromkeys(item.site for item in comparisons))
    return [
        (str(site), difference_panel([item for item in comparisons if item.site == site], colours, edges))
        for site in sites[:MAX_PANELS]
    ]


def _curve_panels(
    runs: Sequence[RunFolder], methods: Sequence[str], sites: Sequence[str], colours: dict[str, int]
) -> list[tuple[str, list[Markup]]]:
    """For each value that any run reports, its label and a panel for each site."""
    known = dict.fromkeys(
        (group, name)
        for run in runs
        for group in ("validation", "losses")
        for name in run.events.names(group)
    )
    order = [key for key in CURVES if key in known] + [key for key in known if key not in CURVES]
    groups = []
    for group, name in order:
        label = CURVES.get((group, name), f"{group}: {name}")
        panels = []
        for site in sites[:MAX_PANELS]:
            curves = {
                method: [
                    points
                    for run in runs
                    if run.method == method and (points := run.events.series(site, group, name))
                ]
                for method in methods
            }
            curves = {method: found for method, found in curves.items() if found}
            if curves:
                panels.append(curve_panel(curves, colours, label=label, title=site))
        if panels:
            groups.append((label, panels))
    return groups
