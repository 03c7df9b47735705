"""Verbs about training: what would travel, the YAML's schema, one run, and a study of many."""

from pathlib import Path
from typing import Annotated, Any

import typer

from polysite.commands.common import Device, Overrides, RunCommands, RunFile, Stopped, require_consent, show
from polysite.errors import ConfigError


def plan(
    run_file: RunFile,
    json_: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    set_: Overrides = None,
) -> None:
    """Say what would leave each site, before anything runs; needs no data."""
    import json

    from polysite.federation.share import explain
    from polysite.recipe import load
    from polysite.run import plan as make_plan

    description = make_plan(load(run_file, set_ or []))
    typer.echo(json.dumps(description, indent=1) if json_ else explain(description), nl=json_)


def schema() -> None:
    """Print the JSON schema of a run's YAML, for editors."""
    import json

    from polysite.config.run import Run

    typer.echo(json.dumps(Run.model_json_schema(), indent=1))


def train(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.yaml", help="not needed with --resume")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to make")] = None,
    set_: Overrides = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    resume: Annotated[Path | None, typer.Option(help="run folder to continue")] = None,
    run_commands: RunCommands = False,
) -> None:
    """Train a federation; a stopped run continues with --resume as if it had not stopped."""
    from polysite import recipe
    from polysite.progress import console, telling
    from polysite.run import create, require_here

    overrides = list(set_ or [])
    overrides += [f"device={device}"] if device else []
    overrides += [f"seed={seed}"] if seed is not None else []
    run = recipe.load(run_file, overrides) if run_file else None
    terminal = console()
    if resume is not None:
        if out is not None and out != resume:
            raise ConfigError(f"--out {out}: --resume {resume} names the folder already; leave one out")
        folder = resume
        _same_run(folder, run, overrides)
        require_consent(folder, run_commands)
    else:
        if run is None:
            raise ConfigError("say what to train: polysite train RUN.yaml --out FOLDER, or --resume FOLDER")
        require_here(run)
        folder = out or Path("runs") / run.name
        with telling(terminal) as tell:
            create(run, folder, tell)
        plan_text = (folder / "share_plan.txt").read_text(encoding="utf-8").split("\nLeaves the site")[0]
        terminal.print(plan_text, soft_wrap=True, markup=False)
    train_folder(folder, terminal, f"polysite train --resume {folder}")
    typer.echo(f"{folder}")


def _same_run(folder: Path, run: Any, overrides: list[str]) -> None:
    """Refuse to go on with another configuration than the folder's."""
    from polysite.run import differences, open_run

    old = open_run(folder)
    if run is None and overrides:
        raise ConfigError(
            "--set, --device and --seed belong to a new run; --resume takes the folder's own configuration"
        )
    different = differences(old, run) if run is not None else []
    if different:
        lines = "\n".join(f"  {line}" for line in different)
        raise ConfigError(
            f"{folder}: was begun with another configuration:\n{lines}\n"
            f"start anew with another --out; device, engine and evaluate may be changed in {folder / 'config.yaml'}"
        )


def train_folder(folder: Path, terminal: Any, again: str) -> None:
    """Train a run folder to its end, shown on the terminal; ``again`` is the command that goes on after a stop."""
    from polysite.progress import shown
    from polysite.run import done_rounds, open_run
    from polysite.run import train as run_training
    from polysite.tensorboard import board

    run = open_run(folder)
    first = done_rounds(run, folder)
    try:
        with shown(run, first, terminal) as (listen, tell), board(folder, first) as listeners:
            run_training(folder, [listen, *listeners], tell)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; go on with: {again}") from None


def compare(
    study_file: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="methods × seeds over one run's YAML")
    ],
    out: Annotated[Path, typer.Option(help="folder of the runs and of report.html")],
) -> None:
    """Train, evaluate and compare several methods; goes on where it was stopped."""
    from polysite.evaluate.summary import summary_rows
    from polysite.progress import console, telling
    from polysite.report.page import build_report
    from polysite.study import compare as run_study
    from polysite.tables import summary_table

    terminal = console()
    again = f"polysite compare {study_file} --out {out}"
    folders, scores, references = run_study(
        study_file, out, lambda folder: train_folder(folder, terminal, again), lambda: telling(terminal)
    )
    show(summary_table(summary_rows(scores, references=references)))
    typer.echo(f"{build_report(folders, out / 'report.html')}")
