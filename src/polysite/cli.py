"""The command line. Verbs import what they need when they run, so that ``--help`` is at once there."""

import errno
import re
import sys

import typer

from polysite.commands import across, kits, results, scans, training
from polysite.commands.common import Stopped
from polysite.errors import ConfigError, PolysiteError

app = typer.Typer(
    name="polysite",
    help="Personalised federated learning for MRI: every site gets the model that is best for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    *(scans.phantom, scans.check, scans.dicom, scans.datasets, scans.prepare, scans.qc),
    *(training.plan, training.schema, training.train),
    *(results.evaluate, results.predict, results.report, training.compare),
    *(kits.provision, kits.request),
    *(across.serve, across.join, across.status, across.audit),
):
    app.command()(verb)

STOPPED = 130
"""Exit status after Ctrl-C."""


def main() -> None:
    """Run the command line; what a user can cause ends with one message and a status other than 0."""
    try:
        app()
    except ConfigError as error:
        _fail(str(error), 2)
    except PolysiteError as error:
        _fail(str(error), 1)
    except Stopped as error:
        _fail(str(error), STOPPED)
    except SystemExit as error:  # typer turns Ctrl-C into it
        if error.code == STOPPED:
            _fail("stopped", STOPPED)
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|can't allocate", str(error)):
            raise
        _fail(
            f"not enough memory ({str(error).splitlines()[0] if str(error) else 'for the next step'}); lower "
            "training.batch_size, task.image_size or network.width",
            1,
        )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(
                f"{error.filename or 'disk'}: no space left on the device: make room, then run this again", 1
            )
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)


def _fail(message: str, status: int) -> None:
    print(f"polysite: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(status)
