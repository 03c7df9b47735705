"""One question to many sites: asked of those who are there, asked again of those who come back, answered in order.

A question ends for a site with its answer, with its refusal, or with the deadline. Sites that were not there the last
time are not waited for, as long as the others are enough; when they come back they are asked like any other.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from polysite.errors import PolysiteError, Refusal
from polysite.federation.carrier import Answered, Came, Carrier, Event, Left, Lost, Sent
from polysite.federation.wire import Payload

T_co = TypeVar("T_co", covariant=True)
MOST_SENDING = 2
"""Payloads that are on their way at once, so that the server's memory does not grow with the number of sites."""
RETRY_S = 5.0
"""How long to wait before something that did not arrive is sent again."""
POLL_S = 1.0


class Question(Protocol[T_co]):
    """What is asked, and what an answer is worth."""

    @property
    def kind(self) -> str:
        """``join`` for a question that joining alone answers."""
        ...

    @property
    def what(self) -> str:
        """The question in words: ``round 3``."""
        ...

    def request(self, site: str, *, join: bool) -> Sequence[memoryview]:
        """The payload that asks a site to join, or the question itself."""
        ...

    def read(self, site: str, data: bytes | memoryview) -> tuple[str, Payload]:
        """What an answer is: ``joined``, ``answer``, ``refused`` or ``late``; a `Refusal` if it cannot be used."""
        ...

    def take(self, site: str, payload: Payload) -> T_co:
        """What is in an answer; a `Refusal` if it cannot be used."""
        ...


@dataclass
class _Open:
    """A question while it is asked."""

    question: Question[Any]
    order: Sequence[str]
    deadline: float
    limit_s: float
    turn: str = ""
    """The site whose answer is waited for."""
    joining: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    came: dict[str, Payload] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    out: dict[str, str] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)

    def unresolved(self) -> list[str]:
        return [
            site
            for site in self.order
            if site not in self.came and site not in self.taken and site not in self.out
        ]

    def ask_anew(self, site: str) -> None:
        self.joining.discard(site)
        self.asked.discard(site)


class Gather:
    """Asks questions of sites through a carrier.

    Parameters
    ----------
    min_sites : int or None
        With fewer answers a question fails; None: all.
    emit : callable
        Told what happened to a site: events ``came``, ``left``, ``absent`` and ``late``.
    tell : callable
        Told in words what is waited for.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        min_sites: int | None,
        emit: Callable[[dict[str, Any]], None],
        tell: Callable[[str], None],
    ) -> None:
        self._carrier, self._min_sites, self._emit, self._tell = carrier, min_sites, emit, tell
        self._there: set[str] = set()
        self._joined: set[str] = set()
        self._sending: set[str] = set()
        self._away: set[str] = set()
        self._told = ""
        self.left_out: Mapping[str, str] = {}
        """Of the question that was asked last: who took no part, and why."""

    @property
    def there(self) -> frozenset[str]:
        """Sites that are connected now."""
        return frozenset(self._there)

    def ask(
        self, question: Question[T_co], sites: Sequence[str], limit_s: float
    ) -> Iterator[tuple[str, T_co]]:
        """Answers in the order of the sites, each as soon as it and those before it have come.

        Raises
        ------
        PolysiteError
            When too few sites can still answer; with what is the matter at each.
        """
        now = _Open(question, sites, time.monotonic() + limit_s, limit_s)
        self.left_out = now.out
        for site in sites:
            now.turn = site
            while site not in now.came and site not in now.out:
                self._step(now)
            if site in now.out:
                continue
            try:
                value = question.take(site, now.came.pop(site))
            except Refusal as error:
                self._leave_out(now, {site: str(error)})
                continue
            now.taken.add(site)
            yield site, value

    def _step(self, now: _Open) -> None:
        """Send what is due, then wait for the next thing to happen; what has come by the deadline counts."""
        left = max(0.0, now.deadline - time.monotonic())
        if left:
            self._send_due(now)
        if self._only_the_away_are_missing(now):
            self._leave_out(now, {site: f"{site}: still not there" for site in now.unresolved()})
            return
        self._say_who_is_missing(now)
        event = self._carrier.next(min(POLL_S, left))
        if event is not None:
            self._handle(now, event)
        elif not left:
            missing = now.unresolved()
            self._away |= set(missing) - self._there
            self._leave_out(now, {site: self._why_not(now, site) for site in missing})

    def _send_due(self, now: _Open) -> None:
        for site in now.unresolved():
            if len(self._sending) >= MOST_SENDING:
                return
            if site not in self._there or site in self._sending:
                continue
            if now.not_before.get(site, 0.0) > time.monotonic():
                continue
            join = site not in self._joined or now.question.kind == "join"
            asked = now.joining if join else now.asked
            if site not in asked:
                asked.add(site)
                self._sending.add(site)
                self._carrier.send(site, now.question.request(site, join=join))

    def _handle(self, now: _Open, event: Event) -> None:
        site = event.site
        match event:
            case Came():
                if site not in self._there:
                    self._emit({"event": "came", "site": site})
                self._there.add(site)
                self._away.discard(site)
                self._joined.discard(site)
                now.not_before.pop(site, None)
                now.ask_anew(site)
            case Left():
                self._emit({"event": "left", "site": site, "why": event.why})
                for those in (self._there, self._joined, self._sending):
                    those.discard(site)
                now.ask_anew(site)
            case Sent():
                self._sending.discard(site)
            case Lost():
                self._sending.discard(site)
                now.not_before[site] = time.monotonic() + RETRY_S
                now.ask_anew(site)
            case Answered():
                self._hear(now, site, event.data)
                if site != now.turn:
                    event.rest()

    def _hear(self, now: _Open, site: str, data: bytes | memoryview) -> None:
        open_ = site in now.unresolved()
        try:
            kind, payload = now.question.read(site, data)
        except Refusal as error:
            self._joined.discard(site)
            if open_:
                self._leave_out(now, {site: str(error)})
            return
        if kind == "late":
            what = {"kind": payload.head.kind, "of_round": payload.head.round}
            self._emit({"event": "late", "site": site, **what})
            return
        if kind == "joined":
            if site in now.joining:
                self._joined.add(site)
            elif site in now.asked and open_:
                why = f"{site}: sent kind 'joined' where an answer to {now.question.what} is due"
                self._leave_out(now, {site: why})
            if now.question.kind != "join":
                return
        if open_:
            now.came[site] = payload

    # --- who takes no part ----------------------------------------------------------------------------------

    def _least(self, now: _Open) -> int:
        return len(now.order) if self._min_sites is None else min(self._min_sites, len(now.order))

    def _only_the_away_are_missing(self, now: _Open) -> bool:
        missing = set(now.unresolved())
        enough = len(now.taken) + len(now.came) >= self._least(now)
        return enough and missing <= self._away - self._there

    def _why_not(self, now: _Open, site: str) -> str:
        """Why a site has not answered by the deadline."""
        if site in self._there:
            return f"{site}: no answer within {now.limit_s:g} s"
        return (
            f"{site}: not there within {now.limit_s:g} s; is `polysite join` running there, and does it reach the "
            "server?"
        )

    def _leave_out(self, now: _Open, sites: Mapping[str, str]) -> None:
        """Sites take no part in what is asked, for reasons; too few others end it.

        Raises
        ------
        PolysiteError
            As `ask`.
        """
        for site, why in sites.items():
            now.out[site] = why
            self._emit({"event": "absent", "site": site, "what": now.question.what, "why": why})
        least = self._least(now)
        if len(now.order) - len(now.out) < least:
            if least < len(now.order):
                now.out[""] = (
                    f"{now.question.what} needs an answer by at least {least} of {len(now.order)} sites"
                )
            raise PolysiteError("\n".join(now.out.values()))

    def _say_who_is_missing(self, now: _Open) -> None:
        missing = [site for site in now.unresolved() if site not in self._there]
        text = f"waiting for {', '.join(missing)}" if missing else ""
        if text != self._told:
            self._told = text
            self._tell(text)
