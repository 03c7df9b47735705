"""What the server writes to sites and reads from them: payloads made, checked, and put into the log."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from torch import Tensor

from polysite.errors import Refusal
from polysite.federation import wire
from polysite.federation.audit import Audit
from polysite.federation.crew import Crew
from polysite.federation.remote import REASON_LETTERS, line
from polysite.federation.share import fingerprint
from polysite.federation.tensor_files import TensorFile

ANSWERS = {"join": "joined", "round": "worked", "finish": "finished"}
"""What is asked -> what a site answers."""


class Letters:
    """The server's payloads of one run."""

    def __init__(self, crew: Crew, audit: Audit) -> None:
        self._plans, self._audit = crew.plans, audit
        self._run = crew.run.agreed()
        self._state: Mapping[str, Tensor] = {}
        self._bodies: dict[str, TensorFile] = {}

    def ask(
        self, kind: str, site: str, round_: int, state: Mapping[str, Tensor], **facts: Any
    ) -> Sequence[memoryview]:
        """A payload for a site, in parts: of the state, the names that this site shares."""
        plan = fingerprint(self._plans[site].shared)
        tensors = self._body(site, plan, state)
        head = wire.Head(kind, self._run.digest(), plan, site, round_, self._audit.tip, facts)
        data = wire.encode(head, tensors)
        self._audit("out", **line(head, wire.digest_of(data), wire.size_of(data), site, tensors))
        return data

    def _body(self, site: str, plan: str, state: Mapping[str, Tensor]) -> TensorFile:
        """What of a state goes to a site; one for all sites that share the same."""
        if not state:
            return TensorFile({})
        if state is not self._state:
            self._state, self._bodies = state, {}
        if plan not in self._bodies:
            shared = self._plans[site].shared
            whole = shared.keys() == state.keys()
            self._bodies[plan] = TensorFile.of(state if whole else {name: state[name] for name in shared})
        return self._bodies[plan]

    def ask_to_join(self, site: str, round_: int) -> Sequence[memoryview]:
        """The payload that proposes the run."""
        run = self._run.model_dump(mode="json")
        return self.ask("join", site, round_, {}, run=run, polysite=version("polysite"))

    def read(self, kind: str, site: str, round_: int, data: bytes | memoryview) -> tuple[str, wire.Payload]:
        """What a site sent: ``joined``, ``answer`` to what was asked, or ``late``, to something before.

        Raises
        ------
        Refusal
            If the site refuses, or what it sent cannot be used.
        """
        plan = self._plans[site]
        payload = wire.read(data, site, wire.most_bytes(plan.sent))
        payload.require(site=site)
        if payload.head.kind == "refused":
            self.came(payload, {})
            reason = str(payload.head.facts.get("reason"))[:REASON_LETTERS]
            raise Refusal("".join(letter if letter.isprintable() else " " for letter in reason))
        payload.require(run=self._run.digest(), plan=fingerprint(plan.shared))
        if payload.head.kind == "joined":
            return "joined", payload
        stale = payload.head.round < round_ or kind == "join"  # asked by this server before it was stopped
        if payload.head.kind in ANSWERS.values() and stale:
            self.came(payload, {})
            return "late", payload
        payload.require(kind=ANSWERS[kind], round=round_)
        return "answer", payload

    def came(self, payload: wire.Payload, tensors: Mapping[str, Tensor]) -> None:
        """Put what came into the log, once it is known to be sound."""
        head = payload.head
        self._audit(
            "in", **line(head, payload.digest, payload.n_bytes, head.site, tensors), peer_log=head.log
        )
