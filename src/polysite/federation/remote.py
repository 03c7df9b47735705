"""A hospital's end of the wire: it answers what the server sends, and decides itself whether.

An answer is made in one order: read and check what came, ask the policy, train (`Site.work`, as anywhere), check
what is to leave, write it into the log, send. The words of an error may hold what is private, a subject's name or a
path; they stay here, and the server hears only that there was one, unless the error is a `Refusal`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib.metadata import version
from typing import Any, Literal

from torch import Tensor

from polysite import recipe
from polysite.config.hospital import Policy
from polysite.config.run import Run
from polysite.errors import ConfigError, PolicyError, PolysiteError, Refusal, WireError
from polysite.federation import wire
from polysite.federation.audit import Audit, listed
from polysite.federation.crew import Crew, make_algorithm, make_plans, make_task
from polysite.federation.policy import allow_names, allow_run
from polysite.federation.server import require_version, write_models
from polysite.federation.share import SitePlan, fingerprint
from polysite.federation.site import Site
from polysite.federation.sound import require_sound, sendable
from polysite.federation.tensor_files import file_digest

SERVER = "server"
"""What the other end is called in logs."""
Open = Callable[[Run], AbstractContextManager[Crew]]
"""Opens a run that the policy allows: finds and prepares the site's cases, holds its folder."""


Outcome = Literal["ended", "stopped", "refused"]


class Outpost:
    """Answers for one site.

    Parameters
    ----------
    open_run : callable
        Gets the agreed run, gives a crew in which this site has its data.
    ended : callable, optional
        Told of the crew when its model is written.
    emit : callable, optional
        Told of the crew and what happened in it: the events ``start``, ``site`` and ``end`` of a run.
    tell : callable, optional
        Told in words of what happens, for this end's own log.
    """

    def __init__(
        self,
        site: str,
        policy: Policy,
        audit: Audit,
        *,
        open_run: Open,
        ended: Callable[[Crew], None] = lambda crew: None,
        emit: Callable[[Crew, dict[str, Any]], None] = lambda crew, event: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.site = site
        self.outcome: Outcome | None = None
        """How the last run left this end: None while one is open or none was."""
        self._policy, self._audit, self._open = policy, audit, open_run
        self._ended, self._emit, self._tell = ended, emit, tell
        self._opened = ExitStack()
        self._run = ""
        self._plan: SitePlan | None = None
        self._crew: Crew | None = None

    @property
    def limit(self) -> int:
        """The most bytes that the server may send now."""
        return wire.most_bytes(self._plan.shared if self._plan else {})

    def answer(self, data: bytes | memoryview) -> Sequence[memoryview]:
        """The answer to one payload, in parts; whatever is wrong becomes a refusal, and the run is joined anew."""
        head: wire.Head | None = None
        try:
            payload = wire.read(data, SERVER, self.limit)
            head = payload.head
            payload.require(site=self.site)
            return self._answer(payload)
        except Refusal as error:
            reason = str(error)
            self._tell(reason)
        except PolysiteError as error:
            reason = f"{self.site}: cannot do this; its own terminal says why"
            self._tell(str(error))
        except (
            Exception
        ) as error:  # a mistake of ours: the server must not wait for an answer, nor read its words
            reason = f"{self.site}: failed; its own terminal says why"
            self._tell(f"{type(error).__name__}: {error}")
        self.leave()
        self.outcome = "refused"
        return self._refusal(data, head, reason)

    def leave(self) -> None:
        """Let go of the run that is open."""
        opened, self._opened = self._opened, ExitStack()
        self._run, self._plan, self._crew = "", None, None
        opened.close()

    def _answer(self, payload: wire.Payload) -> Sequence[memoryview]:
        kinds = {"join": self._join, "round": self._round, "finish": self._finish, "stop": self._stop}
        if payload.head.kind not in kinds:
            raise WireError(
                f"{SERVER}: asks for {payload.head.kind!r:.40}, which is none of {', '.join(kinds)}"
            )
        return kinds[payload.head.kind](payload)

    # --- what can be asked --------------------------------------------------------------------------------

    def _join(self, payload: wire.Payload) -> Sequence[memoryview]:
        """Look at a run, and open it if the policy allows it."""
        self.leave()
        payload.tensors({})
        self._came(payload, {})
        run = self._agreed(payload)
        plan = self._planned(run)
        allow_run(self._policy, self.site, run, plan)
        payload.require(plan=fingerprint(plan.shared))
        self._crew = self._opened.enter_context(self._open(run))
        self._run, self._plan, self.outcome = payload.head.run, plan, None
        self._tell(f"{self.site}: joined {run.name}")
        versions = self._crew.sites[self.site].store.versions()
        self._emit(
            self._crew,
            {"event": "start", "method": run.method, "sites": [self.site], "rounds": run.training.rounds},
        )
        facts = {"versions": versions, "polysite": version("polysite"), "torch": version("torch")}
        return self._send(payload.head, "joined", {}, facts)

    def _round(self, payload: wire.Payload) -> Sequence[memoryview]:
        crew, plan, round_ = *self._joined(payload), payload.head.round
        rounds = crew.run.training.rounds
        if not 0 <= round_ < rounds:
            raise WireError(f"{SERVER}: asks for round {round_} of a run with {rounds}")
        news = payload.tensors(plan.shared)
        self._came(payload, news)
        site = crew.sites[self.site]
        self._require_version(site, payload)
        message = site.work(round_, news)
        require_sound(message, plan, round_)

        def kept() -> None:
            crew.saver.wait()
            self._emit(crew, {"event": "site", "round": round_, "site": self.site, **message.facts})
            self._tell(f"{self.site}: round {round_ + 1} of {rounds} done")

        facts = sendable(message.facts)
        return self._send(payload.head, "worked", message.tensors, facts, first=kept)

    def _finish(self, payload: wire.Payload) -> Sequence[memoryview]:
        crew, plan = self._joined(payload)
        payload.require(round=crew.run.training.rounds)
        state = payload.tensors(plan.shared)
        self._came(payload, state)
        self._require_version(crew.sites[self.site], payload)
        (path,) = write_models(crew, self.site, state)
        self._ended(crew)
        self._emit(crew, {"event": "end", "rounds": crew.run.training.rounds})
        answer = self._send(payload.head, "finished", {}, {"model": file_digest(path)})
        self._tell(f"{self.site}: {crew.run.name} has ended; its model is {path}")
        self.leave()
        self.outcome = "ended"
        return answer

    def _stop(self, payload: wire.Payload) -> Sequence[memoryview]:
        """The server has stopped the run; it may be one that was refused here."""
        if self._crew is not None:
            self._joined(payload)
        payload.tensors({})
        self._came(payload, {})
        reason = "".join(c if c.isprintable() else " " for c in str(payload.head.facts.get("reason")))
        self._tell(f"{self.site}: the server has stopped the run: {reason[:REASON_LETTERS]}")
        answer = self._send(payload.head, "stopped", {}, {})
        if self._crew is not None:
            self.outcome = "stopped"
        self.leave()
        return answer

    def _require_version(self, site: Site, payload: wire.Payload) -> None:
        """Refuse what this site's versions do not lead to; the server says which round it last took part in."""
        round_ = payload.head.round
        least = payload.head.facts.get("least", round_)
        if type(least) is not int or not 0 <= least <= round_:
            raise WireError(f"{SERVER}: says that this site last took part in round {least!r:.40}")
        require_version(self.site, str(site.store.folder), site.store.versions(), round_, least=least)

    def _joined(self, payload: wire.Payload) -> tuple[Crew, SitePlan]:
        if self._crew is None or self._plan is None:
            raise WireError(f"{SERVER}: asks for {payload.head.kind!r} before it asked to join")
        payload.require(run=self._run, plan=fingerprint(self._plan.shared))
        return self._crew, self._plan

    def _agreed(self, payload: wire.Payload) -> Run:
        """The run that the server proposes, as this Polysite understands it."""
        raw = payload.head.facts.get("run")
        if not isinstance(raw, Mapping):
            raise WireError(f"{SERVER}: asks to join and names no run")
        try:
            run = recipe.build(raw, "the server's run").agreed()
        except ConfigError as error:
            raise WireError(str(error)) from error
        if run.digest() != payload.head.run:
            raise WireError(
                f"{SERVER}: its run has another digest here, {run.digest()}; the same version of Polysite is "
                "needed at both ends"
            )
        if self.site not in run.sites:
            raise WireError(f"{SERVER}: its run has no site {self.site!r}")
        return run

    def _planned(self, run: Run) -> SitePlan:
        """What would leave this site, computed here."""
        try:
            task = make_task(run)
            algorithm = make_algorithm(run, task)
            if algorithm.pools_data:
                raise PolicyError(
                    f"{self.site}: takes no part: {run.algorithm.name!r} pools the data of all sites"
                )
            return make_plans(run, task, algorithm)[self.site]
        except ConfigError as error:
            raise WireError(f"the server's run: {error}") from error

    # --- what goes and comes ------------------------------------------------------------------------------

    def _came(self, payload: wire.Payload, tensors: Mapping[str, Tensor]) -> None:
        head = payload.head
        self._audit("in", **line(head, payload.digest, payload.n_bytes, SERVER, tensors), peer_log=head.log)

    def _send(
        self,
        asked: wire.Head,
        kind: str,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        *,
        first: Callable[[], object] = lambda: None,
    ) -> Sequence[memoryview]:
        """What is to leave, in the log; ``first`` waits until it is on the disk, so that it is there after a stop."""
        allow_names(self._policy, self.site, tensors)
        head = wire.Head(kind, asked.run, asked.plan, self.site, asked.round, self._audit.tip, facts)
        data = wire.encode(head, tensors)
        first()
        self._audit("out", **line(head, wire.digest_of(data), wire.size_of(data), SERVER, tensors))
        return data

    def _refusal(
        self, data: bytes | memoryview, asked: wire.Head | None, reason: str
    ) -> Sequence[memoryview]:
        self._audit("refused", sha256=wire.digest_made_of(data), bytes=len(data), reason=reason)
        empty = wire.Head("", "", "", "", 0, "", {})
        return self._send(asked or empty, "refused", {}, {"reason": reason[:REASON_LETTERS]})


REASON_LETTERS = 1000


def line(
    head: wire.Head, digest: str, n_bytes: int, peer: str, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What a log keeps of a payload."""
    return {
        "peer": peer,
        "kind": head.kind,
        "run": head.run,
        "site": head.site,
        "round": head.round,
        "bytes": n_bytes,
        "sha256": digest,
        "tensors": listed(tensors),
        "facts": sorted(head.facts),
    }
