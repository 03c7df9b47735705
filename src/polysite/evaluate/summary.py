"""From scores of volumes to rows of a table: means over subjects with intervals, the best one marked."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from polysite.evaluate.kinds import METRICS
from polysite.evaluate.statistics import Interval, mean_interval
from polysite.evaluate.table import Score, kind_of


@dataclass(frozen=True)
class SummaryRow:
    """One method at one site, for one task or (task None) over all tasks of the site.

    ``metrics`` lacks a metric that is defined for no subject; ``n_subjects`` counts all scored subjects, an
    interval's ``n`` those for whom the metric is defined.
    """

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
    """A row for each site and method; tasks, images, sessions and seeds are averaged within a subject first.

    ``references`` as in `aggregate`.
    """
    return _rows(scores, [(row.site, None) for row in scores], references)


def overview(scores: Sequence[Score], *, references: Collection[str] = ()) -> list[SummaryRow]:
    """The rows of `aggregate`; for a kind of task whose parts are judged together, site by site after those over all.

    ``references`` as in `aggregate`.
    """
    rows = aggregate(scores, references=references)
    if not kind_of(scores).joined:
        return rows
    over_all = summary_rows(scores, references=references)
    sites = dict.fromkeys(row.site for row in scores)
    return [row for site in sites for row in (*over_all, *rows) if row.site == site]


def subject_means(scores: Iterable[Score], metric: str) -> dict[tuple[str, str], float]:
    """One number for each (site, subject): the mean over that subject's seeds, sessions, images and tasks.

    Where the metric is not defined it is left out, and so is a subject without any defined value.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in scores:
        value = row.metrics[metric]
        if value is not None:
            values[row.site, row.subject].append(value)
    return {subject: sum(found) / len(found) for subject, found in values.items()}


def _rows(
    scores: Sequence[Score], groups: Sequence[tuple[str, str | None]], references: Collection[str]
) -> list[SummaryRow]:
    metrics = [metric.name for metric in kind_of(scores).metrics]
    members: dict[tuple[str, str | None], dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for row, group in zip(scores, groups, strict=True):
        members[group][row.method].append(row)
    sites = list(dict.fromkeys(row.site for row in scores))
    methods = list(dict.fromkeys(row.method for row in scores))
    rows = []
    for site, task in sorted(members, key=lambda group: sites.index(group[0])):
        here = {method: members[site, task][method] for method in methods if method in members[site, task]}
        intervals = {
            method: {
                metric: mean_interval([*means.values()])
                for metric in metrics
                if (means := subject_means(found, metric))
            }
            for method, found in here.items()
        }
        rivals = {method: found for method, found in intervals.items() if method not in references}
        for method, found in here.items():
            rows.append(
                SummaryRow(
                    site=site,
                    task=task,
                    method=method,
                    n_subjects=len({row.subject for row in found}),
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
        for metric, own in rivals[method].items()
        if all(
            METRICS[metric].sign * own.mean >= METRICS[metric].sign * other[metric].mean
            for other in rivals.values()
            if metric in other
        )
        # nothing to be better than where no other method's value is defined
        and sum(metric in other for other in rivals.values()) > 1
    )
