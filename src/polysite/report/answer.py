"""The answer first: does the federation help each site?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polysite.evaluate.compare import Comparison, Verdict, compare
from polysite.evaluate.kinds import METRICS
from polysite.evaluate.table import Score, kind_of
from polysite.report.words import interval_text, number, p_text, plural, signed

NO_ANSWER = "These runs do not answer the question."
REMEDY = (
    "Train and evaluate one with the same sites, splits and seed, and give the folders of both to the report."
)
_ORDER = {"local": 0, "fedavg": 1, "pflsynth": 3, "fedcrld": 3, "central": 4}
_MAIN = ("pflsynth-repaired", "fedcrld-repaired", "pflsynth", "fedcrld")
_REFERENCES = ("local", "central")
DESCRIPTIONS = {
    "local": "each site trains alone, on its own scans",
    "fedavg": "one model for all sites, averaged after every round",
    "fedprox": "as fedavg, and each site stays near what it was sent",
    "fedbn": "as fedavg, but each site keeps its own normalisation layers",
    "ditto": "as fedavg, and each site trains a personal model that is pulled towards the average",
    "moon": "as fedavg, and each site's features stay near the average's",
    "pflsynth": "a shared part is averaged, each site keeps its own part and its own code",
    "fedcrld": "one encoder is averaged, each site keeps a second one, its decoder and a memory of its own",
    "central": "all scans pooled in one place: a reference, not a federation",
}


@dataclass(frozen=True)
class Answer:
    """The question's answer in words, and the comparisons that it rests on.

    ``by_site`` compares the main method with ``baseline``, ``others`` the other methods with it, and
    ``against_average`` the main method with ``average``, one model for all sites. Where a site's answer joins
    the parts of its task, ``by_part`` has them one by one.
    """

    headline: str
    detail: str
    verdict: Verdict | None = None
    main: str | None = None
    baseline: str | None = None
    by_site: list[Comparison] = field(default_factory=list)
    others: list[Comparison] = field(default_factory=list)
    against_average: list[Comparison] = field(default_factory=list)
    average: str | None = None
    by_part: list[Comparison] = field(default_factory=list)


def order_methods(algorithms: Mapping[str, str]) -> list[str]:
    """Methods from training alone to pooled data; ``algorithms`` maps a method to its algorithm."""
    return sorted(algorithms, key=lambda method: _rank(algorithms[method]))


def _rank(algorithm: str) -> int:
    return _ORDER.get(algorithm, 2)


def main_method(algorithms: Mapping[str, str]) -> str | None:
    """The method that the question is about: the task's own under its own name, or the first of the nearest kind."""
    federated = [method for method in algorithms if algorithms[method] not in _REFERENCES]
    for wanted in _MAIN:
        if wanted in federated:
            return wanted
    return max(federated, key=lambda method: _rank(algorithms[method]), default=None)


def answer(scores: Sequence[Score], algorithms: Mapping[str, str]) -> Answer:
    """Compare the federated methods with training alone.

    Parameters
    ----------
    scores : sequence of Score
        Of all runs.
    algorithms : mapping
        Scored method -> name of its algorithm.
    """
    joined = kind_of(scores).joined
    by = ("site",) if joined else ("site", "task")
    methods = order_methods(algorithms)
    main = main_method(algorithms)
    baseline = next((method for method in methods if algorithms[method] == "local"), None)
    if main is None:
        return Answer(
            headline=NO_ANSWER,
            detail="There is no federated method among the scored runs. " + REMEDY,
        )
    if baseline is None:
        others = [method for method in methods if method != main]
        return Answer(
            headline=NO_ANSWER,
            detail="There is no run of `local`, where each site trains alone, among the scored runs. "
            + REMEDY,
            main=main,
            baseline=main,
            others=compare(scores, others, main, by=by),
        )
    total = compare(scores, [main], baseline, by=())
    if not total:
        return Answer(
            headline=NO_ANSWER,
            detail=f"{main} and {baseline} have no scored volume in common (same site, subject, image, task and seed).",
        )
    by_site = compare(scores, [main], baseline, by=by)
    average = next((method for method in methods if algorithms[method] == "fedavg" and method != main), None)
    return Answer(
        headline=_headline(total[0]),
        detail=_detail(total[0], by_site),
        verdict=total[0].verdict,
        main=main,
        baseline=baseline,
        by_site=by_site,
        others=compare(scores, [m for m in methods if m not in (main, baseline)], baseline, by=by),
        against_average=compare(scores, [main], average, by=by) if average else [],
        average=average,
        by_part=compare(scores, [main], baseline) if joined else [],
    )


def _headline(total: Comparison) -> str:
    metric = METRICS[total.metric]
    what = f"{metric.unit} {metric.label}".strip()
    gain = signed(total.interval.mean, metric.digits)
    size = number(abs(total.interval.mean), metric.digits)
    return {
        Verdict.HELPS: f"Yes, on average: {total.method} gains {size} {what} over training alone.",
        Verdict.HURTS: f"No: on average {total.method} loses {size} {what} against training alone.",
        Verdict.OPEN: f"Not shown: {total.method} differs from training alone by {gain} {what}, within chance.",
        Verdict.TOO_FEW: f"Too few subjects to tell: {total.method} differs from training alone by {gain} {what}.",
    }[total.verdict]


def _detail(total: Comparison, by_site: Sequence[Comparison]) -> str:
    metric = METRICS[total.metric]
    mean = f"{signed(total.interval.mean, metric.digits)} {metric.unit}".rstrip()
    each = "Site by site" if all(found.task is None for found in by_site) else "Site by site and task by task"
    n_sites = len({site for site, _ in total.differences})
    counts = Counter(found.verdict for found in by_site)
    tally = ", ".join(f"{verdict} in {counts[verdict]}" for verdict in Verdict if counts[verdict])
    return (
        f"Mean paired difference over {plural(total.interval.n, 'test subject')} at {plural(n_sites, 'site')}: "
        f"{mean}{interval_text(total.interval, metric.digits)}; better in {total.n_better} of "
        f"{total.interval.n}; {p_text(total.p)}. {each} ({len(by_site)} comparisons): {tally}."
    )
