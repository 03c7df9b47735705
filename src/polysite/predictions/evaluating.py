"""``polysite evaluate``: every case of a split predicted and scored."""

from pathlib import Path

from polysite.cases import Progress, find_cases
from polysite.errors import DataError
from polysite.evaluate.table import Score, write_scores
from polysite.predictions.applied import applied
from polysite.predictions.derivative import describe_derivative
from polysite.predictions.predicting import write_prediction
from polysite.predictions.predictor import Predictor, on_device
from polysite.run import open_run, prepared_cases
from polysite.seal import trained_model


def evaluate(folder: Path, progress: Progress | None = None, *, device: str | None = None) -> list[Score]:
    """Predict and score every case of the run's evaluation split; writes predictions, examples and scores.csv."""
    run = on_device(open_run(folder), device)
    split = run.evaluate.split
    scores: list[Score] = []
    needed = ""
    for site in run.here:
        trained_model(folder, site)  # before the work on the cases begins
    originals = find_cases(run, progress)
    for site, cases in prepared_cases(run, folder, progress).items():
        at_work = applied(folder, Predictor(folder, run, site))
        out, needed = folder / "predictions" / site, at_work.needed
        roots = {case.root for case in originals[site]}
        describe_derivative(out, at_work.title, run, next(iter(roots)) if len(roots) == 1 else None)
        at_work.describe(out)
        found = {(case.subject, case.session): case for case in originals[site]}
        here: list[Score] = []
        for job in at_work.jobs:
            pairs = [(case, found[case.subject, case.session]) for case in cases[split]]
            able = [pair for pair in pairs if at_work.has_truth(*pair, job)]
            for number, (case, original) in enumerate(able):
                if progress:
                    progress(f"{site}: predicting {original.key} {job}")
                image = at_work.image(case, job)
                write_prediction(out, original, image, job, at_work)
                compared = at_work.compared(case, original, image, job)
                here += compared.scores()
                if number == 0:
                    compared.write_example(out / "examples")
        scores += at_work.completed(here)
    if not scores:
        raise DataError(
            f"{folder}: no case of the {split!r} split has {needed}, so there is nothing to score; "
            "name another split in evaluate.split of its config.yaml"
        )
    write_scores(folder / "scores.csv", scores)
    return scores
