"""The server's part of a run across hospitals."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polysite.cases import Progress
from polysite.config.run import Run
from polysite.errors import ConfigError, PolysiteError
from polysite.events import EventLog, Listener
from polysite.federation.across import Across, Terms
from polysite.federation.audit import Audit
from polysite.federation.carrier import Carrier
from polysite.federation.crew import Crew, assemble, make_algorithm, make_task
from polysite.federation.saver import saving
from polysite.federation.server import federate, last_versions
from polysite.federation.share import describe
from polysite.federation.wire import most_bytes
from polysite.lock import locked
from polysite.run import create, open_run
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
    carry: Callable[[Mapping[str, int]], Carrier],
    terms: Terms = Terms(),  # noqa: B008 (it cannot change)
    listeners: Sequence[Listener] = (),
    tell: Progress | None = None,
) -> None:
    """Run all rounds that a server's run folder still lacks, with the sites at their hospitals.

    Parameters
    ----------
    carry : callable
        Starts the carrier, given the sites' names and the most bytes that each may send at once.

    Raises
    ------
    PolysiteError
        If too few sites take part; or at the end, if a site that was not there has no model yet.
    """
    with locked(folder), saving() as saver:
        run = open_run(folder)
        terms.require_fitting(len(run.sites))
        crew = assemble(run, {}, folder, saver)
        require_same_plan(folder, describe(crew.plans))
        log, audit = EventLog(folder / "events.jsonl", listeners), Audit(folder / AUDIT)
        try:
            limits = {site: most_bytes(plan.sent) for site, plan in crew.plans.items()}
            engine = Across(crew, carry(limits), audit, terms, emit=log, tell=tell or _silent)
            try:
                _run_all(crew, engine, log)
            except PolysiteError as error:
                engine.stop(str(error))
                raise
            finally:
                engine.close()
        finally:
            log.close()


def _run_all(crew: Crew, engine: Across, log: EventLog) -> None:
    run, store = crew.run, crew.server_store()
    done = max(store.versions(), default=0)
    facts = store.head(done)["facts"] if store.versions() else {"last": {}}
    engine.join(done, last_versions(facts, crew, done))
    start = {"method": run.method, "sites": list(crew.plans), "rounds": run.training.rounds}
    log({"event": "start", **start})
    federate(crew, engine, log)
    state, _ = store.load(run.training.rounds, verify=True)
    models, without = engine.finish(state)
    write_seal(crew.folder, models)
    log({"event": "end", "rounds": run.training.rounds})
    if without:
        reasons = "\n".join(without.values())
        raise PolysiteError(
            f"{reasons}\nall others have their model; to make the missing ones, resume the run when they are there"
        )


def _silent(text: str) -> None:
    """Says nothing."""
