"""From scores of volumes to rows of a table: means over subjects with intervals, the best one marked."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from polysite.evaluate.statistics import Interval, mean_interval
from polysite.evaluate.table import Score

METRICS: Mapping[str, int] = {"psnr_db": 1, "ssim": 1, "nrmse": -1}
"""Metric -> 1 where larger is better, -1 where smaller is."""


@dataclass(frozen=True)
class SummaryRow:
    """One method at one site, for one task or (task None) over all tasks of the site."""

    site: str
    task: str | None
    method: str
    n_subjects: int
    n_seeds: int
    metrics: Mapping[str, Interval]
    best: frozenset[str]
    """Metrics in which no other method has a better mean here; empty where there is nothing to be better than."""


def aggregate(scores: Sequence[Score], *, references: Collection[str] = ()) -> list[SummaryRow]:
    """A row for each site, task and method; sites, tasks and methods in the order of their appearance.

    Methods in ``references``, such as a model that was trained on pooled scans, are never marked as best.
    """
    return _rows(scores, [(row.site, row.task) for row in scores], references)


def summary_rows(scores: Sequence[Score], *, references: Collection[str] = ()) -> list[SummaryRow]:
    """A row for each site and method; tasks, sessions and seeds are averaged within a subject first.

    ``references`` as in `aggregate`.
    """
    return _rows(scores, [(row.site, None) for row in scores], references)


def subject_means(scores: Iterable[Score], metric: str) -> dict[tuple[str, str], float]:
    """One number for each (site, subject): the mean over that subject's seeds, sessions and tasks."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in scores:
        values[row.site, row.subject].append(getattr(row, metric))
    return {subject: sum(found) / len(found) for subject, found in values.items()}


def _rows(
    scores: Sequence[Score], groups: Sequence[tuple[str, str | None]], references: Collection[str]
) -> list[SummaryRow]:
    members: dict[tuple[str, str | None], dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for row, group in zip(scores, groups, strict=True):
        members[group][row.method].append(row)
    sites = list(dict.fromkeys(row.site for row in scores))
    methods = list(dict.fromkeys(row.method for row in scores))
    rows = []
    for site, task in sorted(members, key=lambda group: sites.index(group[0])):
        here = {method: members[site, task][method] for method in methods if method in members[site, task]}
        intervals = {
            method: {metric: mean_interval([*subject_means(found, metric).values()]) for metric in METRICS}
            for method, found in here.items()
        }
        rivals = {method: found for method, found in intervals.items() if method not in references}
        for method, found in here.items():
            rows.append(
                SummaryRow(
                    site=site,
                    task=task,
                    method=method,
                    n_subjects=intervals[method]["psnr_db"].n,
                    n_seeds=len({row.seed for row in found}),
                    metrics=intervals[method],
                    best=_best(method, rivals),
                )
            )
    return rows


def _best(method: str, rivals: Mapping[str, Mapping[str, Interval]]) -> frozenset[str]:
    if method not in rivals or len(rivals) < 2:
        return frozenset()
    return frozenset(
        metric
        for metric, sign in METRICS.items()
        if all(sign * rivals[method][metric].mean >= sign * other[metric].mean for other in rivals.values())
    )
