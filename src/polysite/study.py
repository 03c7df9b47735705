"""A study: several methods over several seeds, each a run of its own, and one table."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from polysite import recipe
from polysite.cases import Progress
from polysite.config.base import Name, Section
from polysite.config.run import Run
from polysite.errors import ConfigError
from polysite.evaluate.table import Score, read_scores
from polysite.mistakes import explain
from polysite.predictions import evaluate
from polysite.registry import lookup
from polysite.run import create, differences, open_run, plan

Telling = Callable[[], AbstractContextManager[Progress | None]]


class Study(Section):
    """The YAML of ``polysite compare``."""

    name: Name
    run: Path = Field(description="the runs' YAML, relative to this file")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(default=(7,), min_length=1)
    methods: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="label -> what differs from the runs' YAML"
    )


def load(path: Path) -> tuple[Study, dict[tuple[str, int], Run]]:
    """Read a study and build all its runs, so that a mistake in the last is found before the first begins."""
    raw, node = recipe.read_yaml(path)
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, str(path), node)) from error
    base, _ = recipe.read_yaml(path.parent / study.run)
    if len(set(study.seeds)) < len(study.seeds):
        raise ConfigError(f"{path}: seeds lists one twice: {', '.join(map(str, study.seeds))}")
    runs = {
        (label, seed): recipe.build(
            recipe.merge(recipe.merge(base, differs), {"label": label, "seed": seed}),
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
    telling: Telling = nullcontext,
) -> tuple[list[Path], list[Score], set[str]]:
    """Train and evaluate every run of a study that is not done yet.

    Parameters
    ----------
    train : callable
        Trains a run folder to its end, from wherever it is.
    telling : callable
        Gives a context in which progress is told, for what is done before and after a training.

    Returns
    -------
    list of Path, list of Score, set of str
        The run folders, the scores of all, and the methods that pool the data: references, not competitors.
    """
    study, runs = load(path)
    for label in study.methods:
        try:
            plan(runs[label, study.seeds[0]])
        except ConfigError as error:
            raise ConfigError(f"{path} (methods.{label}): {error}") from error
    folders, scores = [], []
    for (label, seed), run in runs.items():
        folder = out / f"{label}-seed{seed}"
        folders.append(folder)
        if not (folder / "config.yaml").exists():
            with telling() as tell:
                create(run, folder, tell)
        elif different := differences(open_run(folder), run):
            lines = "\n".join(f"  {line}" for line in different)
            raise ConfigError(
                f"{folder}: holds a run with other settings:\n{lines}\nchoose another --out, or remove the folder"
            )
        if not (folder / "scores.csv").exists():
            train(folder)
            with telling() as tell:
                evaluate(folder, tell)
        scores += read_scores(folder / "scores.csv")
    references = {
        label for (label, _), run in runs.items() if lookup("algorithms", run.algorithm.name).pools_data
    }
    return folders, scores, references
