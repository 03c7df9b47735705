"""The command line called in this process, and a run small enough to train in a second."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from polysite import cli

RUN = """\
name: tiny
contrasts: [T1w, T2w, PDw]
cache: {folder}/cache
sites:
  abbey:
    data: {{format: bids, path: {folder}/data/abbey}}
    tasks: [T1w->T2w, T2w->PDw]
  bridge:
    data: {{format: bids, path: {folder}/data/bridge}}
    tasks: [T1w->T2w]
task: {{name: synthesis, image_size: 24, discriminator_width: 4}}
network: {{name: pflsynth, width: 4, n_blocks: 1, latent: 8}}
algorithm: {{name: pflsynth}}
training: {{rounds: 2, steps_per_round: 2, batch_size: 2}}
split: {{test: 0.34}}
engine: {{name: here, threads: 1}}
"""


class Done(NamedTuple):
    """What a command left behind."""

    status: object
    out: str
    err: str


def polysite(*arguments: object) -> Done:
    """Run a command; an exception that is not turned into a message goes through, as a traceback would."""
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        patch.object(sys, "argv", ["polysite", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
    return Done(status, out.getvalue(), err.getvalue())


def well(*arguments: object) -> str:
    """Run a command that must succeed; its standard output."""
    done = polysite(*arguments)
    assert done.status == 0, done.err
    return done.out


def files(folder: Path) -> list[str]:
    """Everything below a folder, hidden files too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(*arguments: object, says: list[str], status: int | None = None) -> None:
    """A command that must fail with all these words in its only message."""
    done = polysite(*arguments)
    assert done.status not in (0, None), done.out
    assert status is None or done.status == status
    for words in says:
        assert words in done.err, done.err
    assert "Traceback" not in done.err
