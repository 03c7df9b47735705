"""Questions to sites that come, go, refuse, and answer late: each answer once, in the order of the sites."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from polysite.errors import PolysiteError, Refusal
from polysite.federation import gather as module
from polysite.federation import wire
from polysite.federation.carrier import Answered, Came, Event, Left, Lost, Sent
from polysite.federation.gather import MOST_SENDING, RETRY_S, Gather

SITES = ["a", "b", "c"]


@dataclass
class Clock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@dataclass
class Script:
    """A carrier whose events come at stated seconds; sites answer at once unless they are told otherwise.

    ``silent`` sites take what is sent and say nothing.
    """

    clock: Clock
    at: list[tuple[float, Event]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)
    on_the_way: int = 0
    most_on_the_way: int = 0
    react: Callable[[str, str], list[Event]] | None = None

    def come(self, *sites: str, after: float = 0.0) -> None:
        self.at += [(self.clock.now + after, Came(site)) for site in sites]

    def send(self, site: str, data: Sequence[memoryview]) -> None:
        text = b"".join(data).decode()
        self.on_the_way += 1
        self.most_on_the_way = max(self.most_on_the_way, self.on_the_way)
        self.sent.append(text)
        word = text.partition(" ")[0]
        if self.react is not None:
            self.at += [(self.clock.now, event) for event in self.react(site, word)]
            return
        self.at.append((self.clock.now, Sent(site)))
        if site not in self.silent:
            reply = "refused" if site in self.refusing else f"{word}ed"
            self.at.append((self.clock.now, Answered(site, reply.encode())))

    def next(self, timeout_s: float) -> Event | None:
        due = [item for item in self.at if item[0] <= self.clock.now + timeout_s]
        if not due:
            self.clock.now += timeout_s
            return None
        first = min(due, key=lambda item: item[0])
        self.at.remove(first)
        self.clock.now = max(self.clock.now, first[0])
        if isinstance(first[1], Sent | Lost):
            self.on_the_way -= 1
        return first[1]

    def close(self) -> None:
        """Nothing to end."""


@dataclass
class Asked:
    """A question in plain words; an answer's worth is its words."""

    kind: str
    wrong: set[str] = field(default_factory=set)

    @property
    def what(self) -> str:
        return f"the {self.kind}"

    def request(self, site: str, *, join: bool) -> Sequence[memoryview]:
        return [memoryview(f"{'join' if join else self.kind} {site}".encode())]

    def read(self, site: str, data: bytes | memoryview) -> tuple[str, wire.Payload]:
        word = bytes(data).decode()
        if word == "refused":
            raise Refusal(f"{site}: no")
        head = wire.Head(word, "", "", site, 0, "", {})
        kinds = {"joined": "joined", f"{self.kind}ed": "answer"}
        return kinds.get(word, "late"), wire.Payload(head, "", 0, memoryview(b""), site)

    def take(self, site: str, payload: wire.Payload) -> str:
        if site in self.wrong:
            raise Refusal(f"{site}: not a number")
        return payload.head.kind


@dataclass
class Bench:
    script: Script
    gather: Gather
    events: list[dict[str, Any]]
    told: list[str]

    def ask(self, kind: str = "work", limit_s: float = 100, **over: Any) -> list[str]:
        self.events.clear()
        return [site for site, _ in self.gather.ask(Asked(kind, **over), SITES, limit_s)]

    def happened(self, event: str) -> list[str]:
        return [one["site"] for one in self.events if one["event"] == event]


@pytest.fixture
def bench(clock: Clock) -> Callable[..., Bench]:
    def make(min_sites: int | None = None, *, there: str = "abc") -> Bench:
        script, events, told = Script(clock), [], []
        script.come(*there)
        return Bench(
            script, Gather(script, min_sites=min_sites, emit=events.append, tell=told.append), events, told
        )

    return make


def test_everybody_joins_and_answers_in_order(bench: Callable[..., Bench]) -> None:
    one = bench(there="cab")
    assert one.ask("join") == SITES
    assert one.ask() == SITES
    assert one.script.sent[-3:] == ["work a", "work b", "work c"]
    assert one.script.clock.now == 0


def test_a_site_is_asked_to_join_before_anything_else(bench: Callable[..., Bench]) -> None:
    one = bench()
    assert one.ask() == SITES
    assert one.script.sent == ["join a", "join b", "join c", "work a", "work b", "work c"]


def test_only_so_much_is_on_its_way_at_once(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.ask()
    assert one.script.most_on_the_way == MOST_SENDING


def test_all_are_waited_for_until_the_deadline(bench: Callable[..., Bench]) -> None:
    one = bench(there="ac")
    with pytest.raises(PolysiteError, match=r"^b: not there within 30 s; is `polysite join`"):
        one.ask(limit_s=30)
    assert one.script.clock.now == 30
    assert "waiting for b" in one.told


def test_a_site_that_comes_later_is_asked_when_it_comes(bench: Callable[..., Bench]) -> None:
    one = bench(there="ab")
    one.script.come("c", after=20)
    assert one.ask(limit_s=30) == SITES
    assert one.script.clock.now == 20


def test_a_site_that_went_away_is_asked_again_when_it_is_back(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.script.silent = {"b"}
    one.script.at += [(5.0, Left("b", "cut")), (9.0, Came("b"))]
    original = one.script.send

    def send(site: str, data: Sequence[memoryview]) -> None:
        one.script.silent = {"b"} if one.script.clock.now < 9 and data[0] != b"join b" else set()
        original(site, data)

    one.script.send = send  # type: ignore[method-assign]
    assert one.ask() == SITES
    assert [word for word in one.script.sent if word.endswith("b")] == ["join b", "work b"] * 2
    assert one.happened("left") == ["b"]
    assert one.happened("came") == [*SITES, "b"]


def test_with_enough_others_the_round_goes_on_at_the_deadline(bench: Callable[..., Bench]) -> None:
    one = bench(2, there="ac")
    assert one.ask(limit_s=30) == ["a", "c"]
    assert one.happened("absent") == ["b"]
    assert one.script.clock.now == 30


def test_all_who_are_missing_are_named_when_too_few_are_there(bench: Callable[..., Bench]) -> None:
    one = bench(3, there="b")
    with pytest.raises(PolysiteError, match=r"^a: not there within 30 s.*\nc: not there within 30 s"):
        one.ask(limit_s=30)
    assert one.happened("absent") == ["a", "c"]


def test_who_was_away_is_not_waited_for_again_and_welcome_when_back(bench: Callable[..., Bench]) -> None:
    one = bench(2, there="ac")
    one.ask(limit_s=30)
    assert one.ask(limit_s=30) == ["a", "c"]
    assert one.script.clock.now == 30
    one.script.come("b")
    assert one.ask(limit_s=30) == SITES
    assert one.script.clock.now == 30


def test_who_was_away_is_waited_for_where_the_others_are_not_enough(bench: Callable[..., Bench]) -> None:
    one = bench(2, there="ac")
    one.ask(limit_s=30)
    left = one.script.clock.now

    def react(site: str, word: str) -> list[Event]:
        gone = site == "a" and one.script.clock.now < left + 10
        return [Sent(site)] if gone else [Sent(site), Answered(site, f"{word}ed".encode())]

    one.script.react = react
    one.script.at.append((left, Left("a", "cut")))
    one.script.come("b", after=10)
    one.script.come("a", after=12)
    assert one.ask(limit_s=30) == SITES
    assert one.script.clock.now == left + 12


def test_a_straggler_is_left_out_and_its_late_answer_is_not_used(bench: Callable[..., Bench]) -> None:
    one = bench(2)
    one.ask("join")
    one.script.silent = {"b"}
    assert one.ask(limit_s=30) == ["a", "c"]
    assert "no answer within 30 s" in one.events[-1]["why"]
    one.script.silent = set()
    one.script.at.append((one.script.clock.now, Answered("b", b"olded")))
    assert one.ask(limit_s=30) == SITES
    assert one.happened("late") == ["b"]


def test_a_straggler_is_waited_for_until_each_deadline(bench: Callable[..., Bench]) -> None:
    one = bench(2)
    one.ask("join")
    one.script.silent = {"b"}
    for number in (1, 2):
        assert one.ask(limit_s=30) == ["a", "c"]
        assert one.script.clock.now == 30 * number


def test_a_refusal_ends_it_at_once_unless_the_others_are_enough(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.script.refusing = {"b"}
    with pytest.raises(PolysiteError, match=r"^b: no$"):
        one.ask()
    other = bench(2)
    other.script.refusing = {"b"}
    assert other.ask() == ["a", "c"]
    assert other.script.clock.now == 0
    other.script.refusing = set()
    assert other.ask() == SITES  # who refused is asked again in the next round
    third = bench(3)
    third.script.refusing = {"b"}
    with pytest.raises(PolysiteError, match=r"^b: no$"):
        third.ask()


def test_too_few_are_told_with_what_is_the_matter_at_each(bench: Callable[..., Bench]) -> None:
    one = bench(2, there="ab")
    one.script.refusing = {"b"}
    with pytest.raises(PolysiteError) as caught:
        one.ask(limit_s=30)
    lines = str(caught.value).splitlines()
    assert lines[0] == "b: no"
    assert lines[1].startswith("c: not there within 30 s")
    assert lines[2] == "the work needs an answer by at least 2 of 3 sites"


def test_an_answer_that_turns_out_wrong_when_it_is_read_counts_as_none(bench: Callable[..., Bench]) -> None:
    assert bench(2).ask(wrong={"b"}) == ["a", "c"]
    with pytest.raises(PolysiteError, match=r"^a: not a number$"):
        bench().ask(wrong={"a"})


def test_what_did_not_arrive_is_sent_again_after_a_while(bench: Callable[..., Bench], clock: Clock) -> None:
    one = bench()
    lost = iter([True])

    def react(site: str, word: str) -> list[Event]:
        if site == "b" and word == "work" and next(lost, False):
            return [Lost("b", "reset")]
        return [Sent(site), Answered(site, f"{word}ed".encode())]

    one.script.react = react
    assert one.ask() == SITES
    assert one.script.sent.count("work b") == 2
    assert clock.now == pytest.approx(RETRY_S, abs=1.0)


def test_an_answer_that_comes_twice_is_used_once(bench: Callable[..., Bench]) -> None:
    one = bench()

    def react(site: str, word: str) -> list[Event]:
        return [Sent(site), *[Answered(site, f"{word}ed".encode())] * 2]

    one.script.react = react
    assert one.ask() == SITES
    assert one.ask() == SITES


def test_a_site_that_only_ever_says_that_it_has_joined_is_left_out(bench: Callable[..., Bench]) -> None:
    one = bench(2)
    one.ask("join")

    def react(site: str, word: str) -> list[Event]:
        return [Sent(site), Answered(site, b"joined" if site == "b" else f"{word}ed".encode())]

    one.script.react = react
    assert one.ask() == ["a", "c"]


def test_what_was_lost_with_a_connection_is_sent_at_once_over_the_next_one(
    bench: Callable[..., Bench], clock: Clock
) -> None:
    one = bench()
    broken = iter([True])

    def react(site: str, word: str) -> list[Event]:
        if site == "b" and word == "work" and next(broken, False):
            return [Lost("b", "cut"), Left("b", "cut"), Came("b")]
        return [Sent(site), Answered(site, f"{word}ed".encode())]

    one.script.react = react
    assert one.ask() == SITES
    assert clock.now == 0
