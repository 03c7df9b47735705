"""The results of a study as Markdown: each method per site, and its paired difference from a baseline.

polysite compare recipes/studies/phantom-methods.yaml --out runs/phantom-methods
python benchmarks/study_table.py runs/phantom-methods --baseline local
"""

import argparse
from pathlib import Path

from polysite.evaluate.compare import compare
from polysite.evaluate.statistics import Interval
from polysite.evaluate.summary import METRICS, summary_rows
from polysite.evaluate.table import Score, read_scores


def interval(value: Interval, digits: int, sign: str = "") -> str:
    """Mean and 95 % interval."""
    text = f"{value.mean:{sign}.{digits}f}"
    if value.low is None or value.high is None:
        return text
    return f"{text} ({value.low:{sign}.{digits}f} to {value.high:{sign}.{digits}f})"


def scores_table(scores: list[Score]) -> str:
    """A row for each site and method; tasks and seeds averaged within a subject."""
    lines = [
        "| site | method | PSNR (dB) | SSIM | NRMSE | subjects | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in summary_rows(scores):
        cells = [interval(row.metrics[name], 2 if name == "psnr_db" else 3) for name in METRICS]
        lines.append(
            f"| {row.site} | {row.method} | {' | '.join(cells)} | {row.n_subjects} | {row.n_seeds} |"
        )
    return "\n".join(lines)


def differences_table(scores: list[Score], baseline: str, metric: str) -> str:
    """Each method minus the baseline per site, then over all sites; Holm within each of the two families."""
    methods = [name for name in dict.fromkeys(row.method for row in scores) if name != baseline]
    digits = 2 if metric == "psnr_db" else 3
    lines = ["| site | method | difference | better in | p (Holm) | verdict |", "|---|---|---|---|---|---|"]
    for by in (("site",), ()):
        for row in compare(scores, methods, baseline, metric=metric, by=by):
            p = "–" if row.p_holm is None else "< 0.0001" if row.p_holm < 1e-4 else f"{row.p_holm:.4f}"
            lines.append(
                f"| {row.site or 'all'} | {row.method} | {interval(row.interval, digits, '+')} "
                f"| {row.n_better} of {len(row.differences)} | {p} | {row.verdict} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print both tables for all finished runs of a study's folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the --out of `polysite compare`")
    parser.add_argument("--baseline", default="local")
    parser.add_argument("--metric", choices=list(METRICS), default="psnr_db")
    arguments = parser.parse_args()
    scores = [row for path in sorted(arguments.folder.glob("*/scores.csv")) for row in read_scores(path)]
    print(scores_table(scores))
    print(f"\n{arguments.metric}, each method minus {arguments.baseline}:\n")
    print(differences_table(scores, arguments.baseline, arguments.metric))


if __name__ == "__main__":
    main()
