"""A study: several methods over several seeds, each a run of its own, and one table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from polysite import config
from polysite.config import Name, Run, Section
from polysite.errors import ConfigError
from polysite.evaluate.table import Score, read_scores
from polysite.federation.crew import make_algorithm
from polysite.predictions import evaluate
from polysite.run import create, open_run


class Study(Section):
    """The YAML of ``polysite compare``."""

    name: Name
    run: Path = Field(description="the runs' YAML, relative to this file")
    seeds: tuple[int, ...] = Field(default=(7,), min_length=1)
    methods: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="label -> what differs from the runs' YAML"
    )


def load(path: Path) -> tuple[Study, dict[tuple[str, int], Run]]:
    """Read a study and build all its runs, so that a mistake in the last is found before the first begins."""
    raw, node = config.read_yaml(path)
    try:
        study = Study(**raw)
    except ValidationError as error:
        raise ConfigError(config.explain(error, str(path), node)) from error
    base, _ = config.read_yaml(path.parent / study.run)
    runs = {
        (label, seed): config.build(
            config.merge(config.merge(base, differs), {"label": label, "seed": seed}),
            f"{path} (methods.{label})",
        )
        for seed in study.seeds
        for label, differs in study.methods.items()
    }
    return study, runs


def compare(
    path: Path,
    out: Path,
    train: Callable[[Path], None],
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Path], list[Score], set[str]]:
    """Train and evaluate every run of a study that is not done yet.

    Parameters
    ----------
    train : callable
        Trains a run folder to its end, from wherever it is.

    Returns
    -------
    list of Path, list of Score, set of str
        The run folders, the scores of all, and the methods that pool the data: references, not competitors.
    """
    _, runs = load(path)
    folders, scores = [], []
    for (label, seed), run in runs.items():
        folder = out / f"{label}-seed{seed}"
        folders.append(folder)
        if not (folder / "scores.csv").exists():
            if not (folder / "config.yaml").exists():
                create(run, folder, progress)
            elif open_run(folder).digest() != run.digest():
                raise ConfigError(
                    f"{folder}: holds a run with other settings; choose another --out or remove it"
                )
            train(folder)
            evaluate(folder, progress)
        scores += read_scores(folder / "scores.csv")
    references = {label for (label, _), run in runs.items() if make_algorithm(run).pools_data}
    return folders, scores, references
