"""The results of a study as Markdown: each method per site, and its paired difference from a baseline.

polysite compare recipes/studies/phantom-methods.yaml --out runs/phantom-methods
python benchmarks/study_table.py runs/phantom-methods --baseline local
"""

import argparse
from collections import defaultdict
from pathlib import Path

from polysite.evaluate.compare import compare
from polysite.evaluate.kinds import METRICS
from polysite.evaluate.statistics import Interval
from polysite.evaluate.summary import SummaryRow, summary_rows
from polysite.evaluate.table import Score, kind_of, read_scores


def interval(value: Interval, digits: int, sign: str = "") -> str:
    """Mean and 95 % interval."""
    text = f"{value.mean:{sign}.{digits}f}"
    if value.low is None or value.high is None:
        return text
    return f"{text} ({value.low:{sign}.{digits}f} to {value.high:{sign}.{digits}f})"


def scores_table(scores: list[Score]) -> str:
    """A row for each site and method; tasks, images and seeds averaged within a subject."""
    metrics = kind_of(scores).metrics
    titles = [f"{metric.label} ({metric.unit})" if metric.unit else metric.label for metric in metrics]
    lines = [
        f"| site | method | {' | '.join(titles)} | subjects | seeds |",
        "|---" * (len(metrics) + 4) + "|",
    ]
    for row in summary_rows(scores):
        cells = [mean_cell(row, metric.name) for metric in metrics]
        lines.append(
            f"| {row.site} | {row.method} | {' | '.join(cells)} | {row.n_subjects} | {row.n_seeds} |"
        )
    return "\n".join(lines)


def mean_cell(row: SummaryRow, metric: str) -> str:
    """Mean and interval, and over how many subjects where some are left out."""
    found = row.metrics.get(metric)
    if found is None:
        return "–"
    left_out = f", {found.n} subjects" if found.n < row.n_subjects else ""
    return interval(found, METRICS[metric].digits) + left_out


def differences_table(scores: list[Score], baseline: str, metric: str) -> str:
    """Each method minus the baseline per site, then over all sites; Holm within each of the two families."""
    methods = [name for name in dict.fromkeys(row.method for row in scores) if name != baseline]
    digits = METRICS[metric].digits
    lines = ["| site | method | difference | better in | p (Holm) | verdict |", "|---|---|---|---|---|---|"]
    for by in (("site",), ()):
        for row in compare(scores, methods, baseline, metric=metric, by=by):
            p = "–" if row.p_holm is None else "< 0.0001" if row.p_holm < 1e-4 else f"{row.p_holm:.4f}"
            lines.append(
                f"| {row.site or 'all'} | {row.method} | {interval(row.interval, digits, '+')} "
                f"| {row.n_better} of {len(row.differences)} | {p} | {row.verdict} |"
            )
    return "\n".join(lines)


def seeds_table(scores: list[Score], task: str, metric: str) -> str:
    """The mean of one task or class for each site and method, seed by seed."""
    found: defaultdict[tuple[str, str], defaultdict[int, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in scores:
        value = row.metrics[metric]
        if row.task == task and value is not None:
            found[row.site, row.method][row.seed].append(value)
    seeds = sorted({seed for by_seed in found.values() for seed in by_seed})
    lines = [
        f"| site | method | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for (site, method), by_seed in sorted(found.items()):
        means = [sum(by_seed[seed]) / len(by_seed[seed]) if by_seed[seed] else None for seed in seeds]
        cells = ["–" if mean is None else f"{mean:.{METRICS[metric].digits}f}" for mean in means]
        lines.append(f"| {site} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables for all finished runs of a study's folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the --out of `polysite compare`")
    parser.add_argument("--baseline", default="local")
    parser.add_argument("--metric", choices=list(METRICS), help="default: the main one")
    parser.add_argument("--each-seed", metavar="TASK", help="also a task or class seed by seed")
    arguments = parser.parse_args()
    scores = [row for path in sorted(arguments.folder.glob("*/scores.csv")) for row in read_scores(path)]
    metric = arguments.metric or kind_of(scores).main.name
    print(scores_table(scores))
    print(f"\n{metric}, each method minus {arguments.baseline}:\n")
    print(differences_table(scores, arguments.baseline, metric))
    if arguments.each_seed:
        print(f"\n{metric} of {arguments.each_seed}, seed by seed:\n")
        print(seeds_table(scores, arguments.each_seed, metric))


if __name__ == "__main__":
    main()
