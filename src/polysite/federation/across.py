"""The server's end of the wire: an engine whose sites are at hospitals, whatever carries the payloads."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from polysite.algorithms.algorithm import Message
from polysite.errors import ConfigError, PolysiteError, WireError
from polysite.federation import wire
from polysite.federation.audit import Audit
from polysite.federation.crew import Crew
from polysite.federation.remote import REASON_LETTERS, line
from polysite.federation.server import require_version
from polysite.federation.share import fingerprint
from polysite.federation.sound import received

ANSWERS = {"join": "joined", "round": "worked", "finish": "finished"}


class Carrier(Protocol):
    """Brings bytes to sites and their answers back, and knows nothing of what is in them."""

    def exchange(self, requests: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """Each site's answer, in the order of the requests; sites work side by side.

        Raises
        ------
        PolysiteError
            Naming the site, if it cannot be reached or does not answer in time.
        """
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...


class Across:
    """The engine of a run across hospitals.

    Parameters
    ----------
    crew : Crew
        With the plans of all sites; none of them has its data here.
    """

    def __init__(self, crew: Crew, carrier: Carrier, audit: Audit) -> None:
        if crew.algorithm.pools_data:
            raise ConfigError(
                f"algorithm.name: {crew.run.algorithm.name!r} pools the data of all sites, which no hospital allows"
            )
        self._crew, self._carrier, self._audit = crew, carrier, audit
        self._run = crew.run.agreed()

    def join(self, first: int) -> None:
        """Ask every site to take part, and find out whether it can go on from a round.

        Raises
        ------
        PolysiteError
            With every site that does not take part, and why.
        """
        facts = {"run": self._run.model_dump(mode="json")}
        requests = ((site, self._request("join", site, first, {}, facts)) for site in self._crew.plans)
        troubles = []
        for site, data in self._carrier.exchange(requests):
            try:
                payload = self._answer("join", site, first, data)
                payload.tensors({})
                self._came(payload, {})
                versions = payload.head.facts.get("versions")
                if not isinstance(versions, list) or any(type(v) is not int for v in versions):
                    raise WireError(f"{site}: does not say which rounds it holds")
                require_version(site, site, versions, first)
            except PolysiteError as error:
                troubles.append(str(error))
        if troubles:
            raise PolysiteError("\n".join(troubles))

    def visit(self, round_: int, news: Mapping[str, Tensor], sites: Iterable[str]) -> Iterator[Message]:
        """One message a site, in order, as soon as it and those before it have come."""
        requests = (
            (site, self._request("round", site, round_, self._shared(site, news), {})) for site in sites
        )
        for site, data in self._carrier.exchange(requests):
            payload = self._answer("round", site, round_, data)
            tensors = payload.tensors(self._crew.plans[site].sent)
            self._came(payload, tensors)
            facts = received(payload.head.facts, site)
            yield Message(site, tensors, facts["n_samples"], facts)

    def finish(self, state: Mapping[str, Tensor]) -> dict[str, str]:
        """Bring every site the last state; the SHA-256 of the models that they keep."""
        rounds = self._run.training.rounds
        requests = (
            (site, self._request("finish", site, rounds, self._shared(site, state), {}))
            for site in self._crew.plans
        )
        models: dict[str, str] = {}
        for site, data in self._carrier.exchange(requests):
            payload = self._answer("finish", site, rounds, data)
            payload.tensors({})
            self._came(payload, {})
            models[site] = str(payload.head.facts.get("model"))
            if not re.fullmatch(r"[0-9a-f]{64}", models[site]):
                raise WireError(f"{site}: does not say which model it keeps")
        return models

    def close(self) -> None:
        """End the carrier."""
        self._carrier.close()

    def _shared(self, site: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: state[name] for name in self._crew.plans[site].shared}

    def _request(
        self, kind: str, site: str, round_: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> bytes:
        plan = fingerprint(self._crew.plans[site].shared)
        head = wire.Head(kind, self._run.digest(), plan, site, round_, self._audit.tip, facts)
        data = wire.encode(head, tensors)
        self._audit("out", **line(head, wire.digest_of(data), len(data), site, tensors))
        return data

    def _answer(self, kind: str, site: str, round_: int, data: bytes) -> wire.Payload:
        """A site's answer, if it is one to what was asked."""
        plan = self._crew.plans[site]
        payload = wire.read(data, site, wire.most_bytes(plan.sent))
        payload.require(site=site)
        if payload.head.kind == "refused":
            self._came(payload, {})
            reason = str(payload.head.facts.get("reason"))[:REASON_LETTERS]
            raise PolysiteError("".join(letter if letter.isprintable() else " " for letter in reason))
        payload.require(
            kind=ANSWERS[kind], run=self._run.digest(), plan=fingerprint(plan.shared), round=round_
        )
        return payload

    def _came(self, payload: wire.Payload, tensors: Mapping[str, Tensor]) -> None:
        head = payload.head
        self._audit(
            "in", **line(head, payload.digest, payload.n_bytes, head.site, tensors), peer_log=head.log
        )
