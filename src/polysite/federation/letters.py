"""What the server writes to sites and reads from them: payloads made, checked, and put into the log."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from torch import Tensor

from polysite.errors import Refusal
from polysite.federation import wire
from polysite.federation.audit import Audit
from polysite.federation.crew import Crew
from polysite.federation.remote import REASON_LETTERS, line
from polysite.federation.share import fingerprint

ANSWERS = {"join": "joined", "round": "worked", "finish": "finished"}
"""What is asked -> what a site answers."""


class Letters:
    """The server's payloads of one run."""

    def __init__(self, crew: Crew, audit: Audit) -> None:
        self._plans, self._audit = crew.plans, audit
        self._run = crew.run.agreed()

    def ask(self, kind: str, site: str, round_: int, state: Mapping[str, Tensor], **facts: Any) -> bytes:
        """A payload for a site: of the state, the names that this site shares."""
        shared = self._plans[site].shared
        tensors = {name: state[name] for name in shared} if state else {}
        head = wire.Head(kind, self._run.digest(), fingerprint(shared), site, round_, self._audit.tip, facts)
        data = wire.encode(head, tensors)
        self._audit("out", **line(head, wire.digest_of(data), len(data), site, tensors))
        return data

    def ask_to_join(self, site: str, round_: int) -> bytes:
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
