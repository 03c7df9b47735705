"""The server's part of a run across hospitals."""

from collections.abc import Callable, Sequence
from pathlib import Path

from polysite.cases import Progress
from polysite.config.run import Run
from polysite.errors import ConfigError
from polysite.events import EventLog, Listener
from polysite.federation.across import Across, Carrier
from polysite.federation.audit import Audit
from polysite.federation.crew import assemble, make_algorithm, make_task
from polysite.federation.saver import saving
from polysite.federation.server import federate
from polysite.federation.share import describe
from polysite.lock import locked
from polysite.run import create, done_rounds, open_run
from polysite.seal import require_same_plan, write_seal

AUDIT = "audit.jsonl"


def create_served(run: Run, folder: Path) -> None:
    """Make the server's run folder; it has no scans, and says so.

    Raises
    ------
    ConfigError
        If the run names what only a hospital may know, or there is a run already.
    """
    if run.split.subjects:
        raise ConfigError(
            f"split.subjects.{next(iter(run.split.subjects))}: names subjects, which stay at the hospital; write "
            "`subjects` into its SITE.yaml"
        )
    if make_algorithm(run, make_task(run)).pools_data:
        raise ConfigError(
            f"algorithm.name: {run.algorithm.name!r} pools the data of all sites, which no hospital allows"
        )
    create(run.agreed(), folder)


def serve(
    folder: Path,
    carry: Callable[[Sequence[str]], Carrier],
    listeners: Sequence[Listener] = (),
    tell: Progress | None = None,
) -> None:
    """Run all rounds that a server's run folder still lacks, with the sites at their hospitals.

    Parameters
    ----------
    carry : callable
        Starts the carrier, given the sites' names.
    """
    with locked(folder), saving() as saver:
        run = open_run(folder)
        crew = assemble(run, {}, folder, saver)
        require_same_plan(folder, describe(crew.plans))
        log, audit = EventLog(folder / "events.jsonl", listeners), Audit(folder / AUDIT)
        try:
            engine = Across(crew, carry(list(crew.plans)), audit)
            try:
                if tell:
                    tell("waiting for all hospitals to join")
                engine.join(done_rounds(run, folder))
                start = {"method": run.method, "sites": list(crew.plans), "rounds": run.training.rounds}
                log({"event": "start", **start})
                federate(crew, engine, log)
                state, _ = crew.server_store().load(run.training.rounds, verify=True)
                write_seal(folder, engine.finish(state))
                log({"event": "end", "rounds": run.training.rounds})
            finally:
                engine.close()
        finally:
            log.close()
