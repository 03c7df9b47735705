"""What a reader must not conclude from a page."""

from collections.abc import Sequence

from polysite.evaluate.kinds import Kind
from polysite.evaluate.statistics import MIN_SUBJECTS_TEST
from polysite.report.run_folder import RunFolder
from polysite.report.wording import WORDINGS
from polysite.report.words import plural


def limits(runs: Sequence[RunFolder], kind: Kind) -> list[str]:
    """The limits of these runs, the gravest first."""
    scores = [row for run in runs for row in run.scores]
    phantoms = list(dict.fromkeys(site for run in runs for site in run.phantom_sites))
    wording = WORDINGS[kind.name]
    found = [wording.warning]
    if phantoms:
        found.append(
            f"The scans of {', '.join(phantoms)} are procedural phantoms, not patients: they test the method and "
            "the software, and say nothing of clinical performance."
        )
    for run in runs:
        for site in run.events.start.get("sites", []):
            if missed := run.events.missed(site):
                found.append(
                    f"{site} took no part in {plural(len(missed), 'round')} of {len(run.events.rounds)} "
                    f"({run.method}): it was away or too late, and the others went on."
                )
    subjects = {(row.site, row.subject) for row in scores}
    if subjects:
        sites = list(dict.fromkeys(site for site, _ in subjects))
        fewest = min(sum(at == site for at, _ in subjects) for site in sites)
        found.append(
            f"The scores rest on {plural(len(subjects), 'test subject')} at {plural(len(sites), 'site')}, the "
            f"smallest with {fewest}. Intervals and tests take the subject as the unit; with fewer than "
            f"{MIN_SUBJECTS_TEST} no test is made, and with 3 or 4 even an interval is too narrow."
        )
        found.append(
            "Intervals speak of further subjects of these sites and scanners, not of other hospitals, and "
            "of these trained models, not of training again."
        )
        by_method: dict[str, set[int]] = {}
        for row in scores:
            by_method.setdefault(row.method, set()).add(row.seed)
        single = [method for method, seeds in by_method.items() if len(seeds) == 1]
        if single:
            found.append(
                f"{', '.join(single)}: trained with a single seed. Another seed can change a mean by "
                f"{wording.seed_effect}."
            )
        found.append(wording.blindness)
    return found


def scoring(runs: Sequence[RunFolder]) -> list[str]:
    """In which mask and range the scores were taken, one text for each way that occurs."""
    scores = [row for run in runs for row in run.scores if "mask" in row.details]
    ways = dict.fromkeys((row.details["mask"], row.details["data_range"]) for row in scores)
    return [f"mask “{mask}”, data range {data_range:g}" for mask, data_range in ways]
