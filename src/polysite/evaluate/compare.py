"""Is one method better than another at a site? Paired differences over the same subjects, and a verdict."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from polysite.evaluate.kinds import METRICS
from polysite.evaluate.statistics import (
    Interval,
    holm,
    mean_interval,
    signed_rank_p,
    smallest_p,
)
from polysite.evaluate.table import Score, kind_of

ALPHA = 0.05


class Verdict(StrEnum):
    """What a comparison shows."""

    HELPS = "helps"
    HURTS = "hurts"
    OPEN = "no difference shown"
    TOO_FEW = "too few subjects"


@dataclass(frozen=True)
class Comparison:
    """One method minus the baseline, at one site and task (None: over all of them).

    ``differences`` has one value for each (site, subject), in the metric's unit. ``p`` is the signed-rank
    test's, ``p_holm`` the same adjusted for all comparisons that were made together.
    """

    site: str | None
    task: str | None
    method: str
    baseline: str
    metric: str
    differences: Mapping[tuple[str, str], float]
    interval: Interval
    n_seeds: int
    n_better: int
    p: float | None
    p_holm: float | None
    verdict: Verdict


def paired_differences(
    scores: Sequence[Score], method: str, baseline: str, metric: str
) -> dict[tuple[str, str], float]:
    """Method minus baseline for each (site, subject) that both have scored.

    Volumes are paired where subject, session, image, task and seed are the same, so that both methods were
    trained on the same split; their differences are then averaged within the subject. A pair of which one
    value is not defined is left out.
    """
    volumes: dict[str, dict[tuple[object, ...], float]] = {method: {}, baseline: {}}
    for row in scores:
        value = row.metrics[metric]
        if row.method in volumes and value is not None:
            volumes[row.method][row.key[1:]] = value
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, value in volumes[method].items():
        if key in volumes[baseline]:
            found[str(key[1]), str(key[2])].append(value - volumes[baseline][key])
    return {subject: sum(values) / len(values) for subject, values in found.items()}


def compare(
    scores: Sequence[Score],
    methods: Sequence[str],
    baseline: str,
    *,
    metric: str | None = None,
    by: Sequence[str] = ("site", "task"),
) -> list[Comparison]:
    """Every method against the baseline, in each group of subjects; p values by Holm over all of these.

    Parameters
    ----------
    scores : sequence of Score
        Of all methods and seeds.
    methods, baseline : str
        Names in ``scores``.
    metric : str, optional
        A key of `METRICS`; default: the main one of the scores' kind of task.
    by : sequence of "site", "task"
        What makes a group; ``()`` takes all subjects together, averaging tasks within each of them.

    Returns
    -------
    list of Comparison
        Groups in the order of appearance, methods within a group in the given order; a method that shares
        no scored volume with the baseline in a group is left out there.
    """
    metric = metric or kind_of(scores).main.name
    sign = METRICS[metric].sign
    groups: dict[tuple[str | None, str | None], list[Score]] = defaultdict(list)
    for row in scores:
        groups[row.site if "site" in by else None, row.task if "task" in by else None].append(row)
    sites = list(dict.fromkeys(row.site for row in scores))
    pending = []
    for site, task in sorted(groups, key=lambda group: sites.index(group[0]) if group[0] else -1):
        for method in methods:
            differences = paired_differences(groups[site, task], method, baseline, metric)
            if differences:
                n_seeds = len({row.seed for row in groups[site, task] if row.method == method})
                pending.append((site, task, method, differences, n_seeds))
    p_values = [signed_rank_p([*differences.values()]) for _, _, _, differences, _ in pending]
    best_case = holm(
        [
            None if p is None else smallest_p(len(differences))
            for p, (_, _, _, differences, _) in zip(p_values, pending, strict=True)
        ]
    )
    comparisons = []
    for (site, task, method, differences, n_seeds), p, p_holm, least in zip(
        pending, p_values, holm(p_values), best_case, strict=True
    ):
        interval = mean_interval([*differences.values()])
        comparisons.append(
            Comparison(
                site=site,
                task=task,
                method=method,
                baseline=baseline,
                metric=metric,
                differences=differences,
                interval=interval,
                n_seeds=n_seeds,
                n_better=sum(sign * value > 0 for value in differences.values()),
                p=p,
                p_holm=p_holm,
                verdict=_verdict(sign, interval, p_holm, least),
            )
        )
    return comparisons


def _verdict(sign: int, interval: Interval, p_holm: float | None, least: float | None) -> Verdict:
    """The verdict in words; ``least`` is the adjusted p value if every subject had gone one way.

    A difference counts as shown where the adjusted test and the interval agree.
    """
    if p_holm is None or least is None or least > ALPHA or interval.low is None or interval.high is None:
        return Verdict.TOO_FEW
    if p_holm > ALPHA or interval.low <= 0 <= interval.high:
        return Verdict.OPEN
    return Verdict.HELPS if sign * interval.mean > 0 else Verdict.HURTS
