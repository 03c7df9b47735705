"""What several verbs share: options, tables on the terminal, and the way to stop."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from polysite.errors import ConfigError

RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="the run's configuration")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="a folder made by `polysite train`")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 …; default: the run's")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="replace a value of the YAML, e.g. training.rounds=3"),
]


RunCommands = Annotated[
    bool,
    typer.Option("--run-commands", help="run the programs that the run folder names (prepare.mask_command)"),
]


class Stopped(Exception):
    """Ctrl-C, with what to do next."""


def show(table: Any) -> None:
    """Print a table as wide as the terminal; wide enough not to be broken where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200, soft_wrap=not sys.stdout.isatty()).print(table)


@contextmanager
def stoppable(again: str) -> Iterator[None]:
    """Ctrl-C, or a polite request to end, ends with a word about how to go on, and whatever was started ends too."""
    import signal

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"stopped; go on with: {again}") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def require_consent(folder: Path, run_commands: bool) -> None:
    """A run folder may come from anywhere, so its programs are not started because it says so."""
    from polysite.run import open_run

    run = open_run(folder)
    named = [
        prepare.mask_command
        for prepare in (run.prepare, *(site.prepare for site in run.sites.values()))
        if prepare
    ]
    if not run_commands and any(named):
        texts = "; ".join(" ".join(command) for command in dict.fromkeys(named) if command)
        raise ConfigError(
            f"{folder / 'config.yaml'}: names a program to be run on this machine: {texts}. If you know it and want "
            "that, add --run-commands"
        )
