"""Verbs about finished runs: scores, predictions, the report."""

from pathlib import Path
from typing import Annotated

import typer

from polysite.commands.common import Device, RunCommands, RunFolder, require_consent, show


def evaluate(folder: RunFolder, device: Device = None, run_commands: RunCommands = False) -> None:
    """Predict and score every test case: predictions/ and scores.csv."""
    from polysite.evaluate.summary import overview
    from polysite.predictions import evaluate as run_evaluation
    from polysite.progress import console, telling
    from polysite.tables import summary_table

    require_consent(folder, run_commands)
    with telling(console()) as tell:
        scores = run_evaluation(folder, tell, device=device)
    show(summary_table(overview(scores)))
    typer.echo(f"{folder / 'scores.csv'}")


def predict(
    folder: RunFolder,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="a volume, a DICOM series (folder or file) or a BIDS folder")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="a .nii.gz file, or a folder for a BIDS folder")],
    site: Annotated[str, typer.Option(help="whose model")],
    task: Annotated[
        str | None, typer.Option(help="SOURCE->TARGET, or an image's name; default: by the file's name")
    ] = None,
    device: Device = None,
    dicom_: Annotated[
        Path | None,
        typer.Option(
            "--dicom", metavar="PATH", help="folder to make for the result as DICOM of the input's patient"
        ),
    ] = None,
    run_commands: RunCommands = False,
) -> None:
    """Apply a model to whole volumes: the result lies on the input's own grid."""
    from polysite.predictions import predict as run_prediction

    require_consent(folder, run_commands)
    for path in run_prediction(folder, site, source, out, task, device=device, dicom=dicom_):
        typer.echo(f"{path}")


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN_FOLDER…")],
    out: Annotated[Path | None, typer.Option(help="default: report.html in the first folder")] = None,
) -> None:
    """Write one self-contained page about one or several runs."""
    from polysite.report.page import build_report

    typer.echo(f"{build_report(folders, out or folders[0] / 'report.html')}")
