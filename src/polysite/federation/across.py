"""The server's end of the wire: an engine whose sites are at hospitals, whatever carries the payloads."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from polysite.algorithms.algorithm import Message
from polysite.errors import CheckpointError, ConfigError, Refusal, WireError
from polysite.federation.audit import Audit
from polysite.federation.carrier import Carrier
from polysite.federation.crew import Crew
from polysite.federation.gather import Gather, Question
from polysite.federation.letters import Letters
from polysite.federation.server import require_version
from polysite.federation.sound import received, require_sound
from polysite.federation.wire import Payload

T = TypeVar("T")
FAREWELL_S = 5.0
"""How long the word that a run has stopped may take to each hospital."""


@dataclass(frozen=True)
class Terms:
    """How long sites are waited for, and how many must answer.

    Parameters
    ----------
    wait_s, deadline_s : float
        Until all sites have joined, and for the answers of one round.
    min_sites : int or None
        With fewer the run stops; None: with any less than all.
    """

    wait_s: float = 86_400
    deadline_s: float = 86_400
    min_sites: int | None = None

    def require_fitting(self, n_sites: int) -> None:
        """Refuse terms that no run of so many sites can have.

        Raises
        ------
        ConfigError
            Quotes the number.
        """
        if not (self.min_sites is None or 1 <= self.min_sites <= n_sites):
            raise ConfigError(f"--min-sites: {self.min_sites} is not between 1 and the run's {n_sites} sites")


class Across:
    """The engine of a run across hospitals.

    Parameters
    ----------
    crew : Crew
        With the plans of all sites; none of them has its data here.
    emit, tell : callable
        Told of sites that come, go and take no part, as events and in words.
    """

    def __init__(
        self,
        crew: Crew,
        carrier: Carrier,
        audit: Audit,
        terms: Terms = Terms(),
        *,
        emit: Callable[[dict[str, Any]], None] = lambda event: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        if crew.algorithm.pools_data:
            raise ConfigError(
                f"algorithm.name: {crew.run.algorithm.name!r} pools the data of all sites, which no hospital allows"
            )
        self._plans, self._rounds = crew.plans, crew.run.training.rounds
        self._carrier, self._terms = carrier, terms
        self._letters = Letters(crew, audit)
        self._gather = Gather(carrier, min_sites=terms.min_sites, emit=emit, tell=tell)
        self._last: dict[str, int] = {}
        self._next = 0

    def join(self, first: int, last: Mapping[str, int] | None = None) -> None:
        """Ask every site to take part, and find out whether it can go on from a round.

        Parameters
        ----------
        last : mapping, optional
            Site -> the version that the last round gave in which it took part; default: ``first``, for all.

        Raises
        ------
        PolysiteError
            If too few take part; with what is the matter at each.
        """
        self._next = first
        self._last = {site: first if last is None else last.get(site, 0) for site in self._plans}
        question: Question[None] = _Join(self, "join", f"round {first + 1}", first, {})
        for _ in self._gather.ask(question, list(self._plans), self._terms.wait_s):
            pass

    def visit(self, round_: int, news: Mapping[str, Tensor], sites: Iterable[str]) -> Iterator[Message]:
        """One message a site that takes part, in order, as soon as it and those before it have come."""
        self._next = round_
        question: Question[Message] = _Round(self, "round", f"round {round_ + 1}", round_, news)
        for site, message in self._gather.ask(question, list(sites), self._terms.deadline_s):
            self._last[site] = round_ + 1
            yield message

    def finish(self, state: Mapping[str, Tensor]) -> tuple[dict[str, str], Mapping[str, str]]:
        """Bring every site the last state.

        Returns
        -------
        dict, mapping
            Site -> SHA-256 of the model that it keeps; and site -> why it has none.
        """
        self._next = self._rounds
        question: Question[str] = _Finish(self, "finish", "the end of the run", self._rounds, state)
        models = dict(self._gather.ask(question, list(self._plans), self._terms.deadline_s))
        return models, self._gather.left_out

    def stop(self, reason: str) -> None:
        """Tell those who are there that the run has stopped, as far as they can be reached."""
        there = sorted(self._gather.there)
        for site in there:
            self._carrier.send(site, self._letters.ask("stop", site, self._next, {}, reason=reason))
        for _ in there:
            self._carrier.next(FAREWELL_S)

    def close(self) -> None:
        """End the carrier."""
        self._carrier.close()


@dataclass(frozen=True)
class _Question(ABC, Generic[T]):
    """What the questions have in common; see `polysite.federation.gather.Question`."""

    engine: Across
    kind: str
    what: str
    round: int
    state: Mapping[str, Tensor]

    def request(self, site: str, *, join: bool) -> Sequence[memoryview]:
        letters = self.engine._letters
        if join:
            return letters.ask_to_join(site, self.engine._next)
        return letters.ask(self.kind, site, self.round, self.state, least=self.engine._last[site])

    def read(self, site: str, data: bytes | memoryview) -> tuple[str, Payload]:
        kind, payload = self.engine._letters.read(self.kind, site, self.round, data)
        if kind == "joined":
            self._require_able(site, payload)
        return kind, payload

    @abstractmethod
    def take(self, site: str, payload: Payload) -> T:
        """What is in an answer."""

    def _require_able(self, site: str, payload: Payload) -> None:
        """Refuse a site whose rounds do not lead to the next one."""
        payload.tensors({})
        self.engine._letters.came(payload, {})
        versions = payload.head.facts.get("versions")
        if not isinstance(versions, list) or any(type(v) is not int for v in versions):
            raise WireError(f"{site}: does not say which rounds it holds")
        try:
            require_version(site, site, versions, self.engine._next, least=self.engine._last[site])
        except CheckpointError as error:
            raise Refusal(str(error)) from error


class _Join(_Question[None]):
    def take(self, site: str, payload: Payload) -> None:
        """Nothing more: it has joined."""


class _Round(_Question[Message]):
    def take(self, site: str, payload: Payload) -> Message:
        plan = self.engine._plans[site]
        tensors = payload.tensors(plan.sent)
        facts = received(payload.head.facts, site)
        self.engine._letters.came(payload, tensors)
        message = Message(site, tensors, facts["n_samples"], facts)
        require_sound(message, plan, self.round)
        return message


class _Finish(_Question[str]):
    def take(self, site: str, payload: Payload) -> str:
        payload.tensors({})
        self.engine._letters.came(payload, {})
        model = str(payload.head.facts.get("model"))
        if not re.fullmatch(r"[0-9a-f]{64}", model):
            raise WireError(f"{site}: does not say which model it keeps")
        return model
