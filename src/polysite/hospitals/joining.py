"""The hospital's part of runs across hospitals: it waits for what the server asks, in a process of its own."""

from collections.abc import Callable

from polysite.config.hospital import Hospital
from polysite.engines.door import Closed, Door, receive, send
from polysite.engines.nvflare.kit import LOG, prepare_workspace, read_kit, start, stop
from polysite.engines.nvflare.words import ENDED
from polysite.errors import ConfigError, PolysiteError
from polysite.federation.audit import Audit
from polysite.federation.crew import Crew
from polysite.federation.remote import Outpost
from polysite.hospitals.opening import opener
from polysite.hospitals.serving import AUDIT
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
        If NVFlare's client ends by itself.
    """
    if hospital.kit is None:
        raise ConfigError(
            "kit: is missing; name the start-up kit that `polysite provision` made for this hospital"
        )
    kit = read_kit(hospital.kit, "client")
    if kit.name != hospital.site:
        raise ConfigError(f"kit: {hospital.kit} is that of {kit.name!r}; this is {hospital.site!r}")
    hospital.store.mkdir(parents=True, exist_ok=True, mode=0o700)
    finished: list[str] = []

    def ended(crew: Crew) -> None:
        seal_models(crew.run, crew.folder)
        finished.append(crew.run.name)

    with locked(hospital.store):
        outpost = Outpost(
            hospital.site,
            hospital.policy,
            Audit(hospital.store / AUDIT),
            open_run=opener(hospital, tell),
            ended=ended,
            tell=tell,
        )
        door = Door()
        workspace = prepare_workspace(kit, (hospital.store / "nvflare").absolute())
        client = start(kit, workspace, door.path)
        tell(f"{hospital.site}: waits for runs; Ctrl-C to leave")
        try:
            while True:
                channel = door.wait(lambda: client.poll() is not None)
                with channel:
                    try:
                        word, content, _ = receive(channel)
                        if word != ENDED:
                            send(channel, hospital.site, outpost.answer(content))
                            continue
                    except Closed as closed:
                        tell(f"{hospital.site}: the server's request was broken off: {closed}")
                        continue
                outpost.leave()
                if once and not finished:
                    raise PolysiteError(
                        f"{hospital.site}: the run stopped before its end; join again to go on"
                    )
                if once:
                    return
        except Closed as closed:
            raise PolysiteError(
                f"{hospital.site}: nvflare's client ended with status {client.poll()}; see {workspace / LOG}"
            ) from closed
        finally:
            outpost.leave()
            stop(client)
            door.close()
