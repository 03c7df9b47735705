"""The hospital's part of runs across hospitals: it waits for what the server asks, in a process of its own."""

from collections.abc import Callable
from contextlib import closing

from polysite.config.hospital import Hospital
from polysite.engines.nvflare.line import Line
from polysite.errors import CheckpointError, ConfigError, PolysiteError
from polysite.federation.audit import Audit
from polysite.federation.remote import Outpost
from polysite.hospitals.opening import note, opener
from polysite.hospitals.serving import AUDIT
from polysite.kits.kit import read_kit
from polysite.lock import locked
from polysite.seal import seal_models


def join(hospital: Hospital, *, once: bool = False, tell: Callable[[str], None] = lambda text: None) -> None:
    """Take part in runs until stopped, or until one has ended.

    Parameters
    ----------
    once : bool
        Return when a run has ended; an error if it did not end well.

    Raises
    ------
    PolysiteError
        If another process takes part under this name.
    """
    if hospital.kit is None:
        raise ConfigError(
            "kit: is missing; name the start-up kit that `polysite provision` made for this hospital"
        )
    kit = read_kit(hospital.kit, "hospital", tell)
    if kit.name != hospital.site:
        raise ConfigError(f"kit: {hospital.kit} is that of {kit.name!r}; this is {hospital.site!r}")
    try:
        hospital.store.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"store: {hospital.store}: cannot be made: {error.strerror}") from error
    with locked(hospital.store):
        outpost = Outpost(
            hospital.site,
            hospital.policy,
            Audit(hospital.store / AUDIT),
            open_run=opener(hospital, tell),
            ended=lambda crew: seal_models(crew.run, crew.folder),
            emit=note,
            tell=tell,
        )
        line = Line(kit, (hospital.store / "nvflare").absolute(), lambda: outpost.limit, tell)
        tell(f"{hospital.site}: waits for runs; Ctrl-C to leave")
        with closing(line):
            try:
                _answer_all(outpost, line, once=once, tell=tell)
            finally:
                outpost.leave()


def _answer_all(outpost: Outpost, line: Line, *, once: bool, tell: Callable[[str], None]) -> None:
    while True:
        try:
            answer = outpost.answer(line.next())
        except CheckpointError as error:  # what cannot be written into the log is not sent
            if once:
                raise
            outpost.leave()
            tell(f"{error}; tried again when the server asks again")
            line.hang_up()
            continue
        arrived = line.answer(answer)
        if once and outpost.outcome == "ended" and arrived:
            return
        if once and outpost.outcome in ("refused", "stopped"):
            raise PolysiteError(f"{outpost.site}: the run did not come to its end here; join again to go on")
