"""Verbs of runs across hospitals: the server, a hospital, its log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from polysite.commands.common import Overrides, show, stoppable
from polysite.errors import CheckpointError, ConfigError, PolysiteError


def serve(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.yaml", help="not needed with --resume")
    ] = None,
    kit: Annotated[Path, typer.Option(help="the server's start-up kit")] = Path("server"),
    out: Annotated[Path | None, typer.Option(help="run folder to make")] = None,
    resume: Annotated[Path | None, typer.Option(help="run folder to continue")] = None,
    set_: Overrides = None,
    wait: Annotated[int, typer.Option(min=1, help="seconds to wait until every hospital is there")] = 86_400,
    deadline: Annotated[
        int, typer.Option(min=1, help="seconds to wait for the hospitals' answers in a round")
    ] = 86_400,
    min_sites: Annotated[
        int | None,
        typer.Option(
            min=1, help="go on with so many hospitals when the time is over; default: stop without all"
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="address of this machine at which to listen")] = "0.0.0.0",
) -> None:
    """Train a federation across hospitals, each of which has joined with `polysite join`."""
    from polysite import recipe
    from polysite.engines.nvflare.carrier import NVFlare
    from polysite.federation.across import Terms
    from polysite.hospitals.serving import create_served
    from polysite.hospitals.serving import serve as run_server
    from polysite.kits.kit import read_kit
    from polysite.progress import console, shown
    from polysite.run import done_rounds, open_run

    terminal = console()

    def warn(text: str) -> None:
        terminal.print(text, soft_wrap=True, markup=False)

    server = read_kit(kit, "server", warn)
    if (run_file is None) == (resume is None):
        raise ConfigError("say what to train: polysite serve RUN.yaml --out FOLDER, or --resume FOLDER")
    terms = Terms(wait_s=wait, deadline_s=deadline, min_sites=min_sites)
    if resume is not None:
        folder = resume
        if set_ or out not in (None, resume):
            raise ConfigError(
                "--set and --out belong to a new run; --resume takes the folder's own configuration"
            )
    else:
        assert run_file is not None
        run = recipe.load(run_file, set_ or [])
        folder = out or Path("runs") / run.name
        terms.require_fitting(len(run.sites))
        create_served(run, folder)
        terminal.print(
            (folder / "share_plan.txt").read_text("utf-8").split("\nLeaves the site")[0], markup=False
        )
    run = open_run(folder)
    warn(f"{run.name}: digest {run.agreed().digest()}")
    again = f"polysite serve --resume {folder} --kit {kit}"
    with (
        stoppable(again),
        shown(run, done_rounds(run, folder), terminal) as (listen_to, tell),
    ):

        def carry(limits: Mapping[str, int]) -> NVFlare:
            return NVFlare(server, folder / "nvflare", limits, listen=listen, tell=tell)

        try:
            run_server(folder, carry, terms, [listen_to], tell)
        except ConfigError:
            raise
        except PolysiteError as error:
            raise PolysiteError(f"{error}\nwhen that is mended, go on with: {again}") from error
    typer.echo(f"{folder}")


def join(
    site_file: Annotated[
        Path, typer.Argument(metavar="SITE.yaml", help="this hospital: scans, store, kit, policy")
    ],
    once: Annotated[bool, typer.Option("--once", help="leave when one run has ended")] = False,
) -> None:
    """Take part in runs across hospitals: wait for the server, train here, send what the policy allows."""
    from polysite.hospitals.joining import join as take_part
    from polysite.hospitals.site_file import load_hospital
    from polysite.progress import console

    hospital, terminal = load_hospital(site_file), console()
    with stoppable(f"polysite join {site_file}"):
        take_part(hospital, once=once, tell=lambda text: terminal.print(text, soft_wrap=True, markup=False))


def status(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="a server's run folder, or a hospital's store")
    ],
) -> None:
    """Say how runs across hospitals stand: who is there, what was done, what went on without whom."""
    from polysite.hospitals.standing import TITLES, standings
    from polysite.tables import plain_table

    for standing in standings(folder):
        run = standing.run
        typer.echo(
            f"{standing.folder}: {run.name} ({run.method}), digest {run.agreed().digest()}\n"
            f"{standing.state}; round {standing.done} of {run.training.rounds}; "
            f"last event {standing.last[:19] or 'none'}"
        )
        show(plain_table(TITLES, [site.cells() for site in standing.sites]))


def audit(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="audit.jsonl of a hospital's store or a server's run")
    ],
    against: Annotated[
        Path | None, typer.Option(help="the other end's log: is all that it tells of here in this one?")
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="with --against: what the other log calls this end")
    ] = None,
) -> None:
    """Verify an audit log, line by line, and say what went and came."""
    from polysite.federation.audit import missing_from, verify
    from polysite.tables import audit_table

    records, compared = verify(log), ""
    if against is not None:
        if site is None:
            raise ConfigError(
                "--against: say with --site what the other log calls this end (a site's name, or server)"
            )
        findings, n_came = missing_from(records, verify(against), site)
        if findings:
            raise CheckpointError("\n".join(f"{log}: {finding}" for finding in findings))
        compared = f"; all {n_came} payloads are here that {against} says came from {site}"
    show(audit_table(records))
    typer.echo(f"{log}: {len(records)} lines, none changed, removed or moved{compared}")
