"""Both ends of a link, honest and hostile, without a run: who is let in, what is taken, and what it costs."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from polysite.errors import PolysiteError
from polysite.federation.carrier import Answered, Came, Event, Left, Lost, Sent
from polysite.federation.memory import Memory
from polysite.kits.kit import Kit, read_kit
from processes import until

nvflare = pytest.importorskip("nvflare", reason="nvflare is not installed: pip install '.[nvflare]'")

from polysite.engines.nvflare import link, parcels, words  # noqa: E402
from polysite.engines.nvflare.carrier import MOST_UNREAD, NVFlare  # noqa: E402
from polysite.engines.nvflare.line import Line  # noqa: E402
from polysite.engines.nvflare.rooms import InFile, InMemory  # noqa: E402

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.enable_socket]
LIMIT = 1 << 20


class Bench:
    """A server's end for two hospitals, hospitals' ends, and what all of them say."""

    def __init__(self, kits: Path, folder: Path, ends: ExitStack) -> None:
        self.kits, self.folder, self._ends = kits, folder, ends
        self.told: list[str] = []
        self.server = self.serve()

    def serve(self) -> NVFlare:
        kit = read_kit(self.kits / "server", "server")
        limits = {"north": LIMIT, "south": LIMIT}
        end = NVFlare(kit, self.folder / "server", limits, listen="127.0.0.1", tell=self.told.append)
        return cast(NVFlare, self._ends.enter_context(closing(end)))

    def kit(self, site: str) -> Kit:
        return read_kit(self.kits / "hospitals" / site, "hospital")

    def line(self, site: str = "north", limit: int = LIMIT) -> Line:
        end = Line(self.kit(site), self.folder / site, lambda: limit, self.told.append)
        return cast(Line, self._ends.enter_context(closing(end)))

    def joined(self, site: str = "north", limit: int = LIMIT) -> Line:
        """A hospital that the server has let in."""
        end = self.line(site, limit)
        assert self.next(Came) == Came(site)
        until(lambda: f"{site}: connected to localhost:{self.kit(site).port}" in self.told, "the connection")
        return end

    def hostile(self, site: str = "north", **about: Any) -> "Hostile":
        return cast(
            Hostile, self._ends.enter_context(closing(Hostile(self.kit(site), self.folder / site, **about)))
        )

    def let_in(self, site: str = "north") -> "Hostile":
        """A hostile hospital that the server has let in."""
        end = self.hostile(site)
        assert self.next(Came) == Came(site)
        end.until_heard("welcome")
        return end

    def next(self, kind: type[Event]) -> Any:
        """The next event, which has to be of a kind."""
        found = until(lambda: self.server.next(0.1), f"an event {kind.__name__}", within=60)
        assert isinstance(found, kind), found
        return found

    @property
    def log(self) -> str:
        """What NVFlare's loggers wrote; the file of the end that was started last."""
        return "".join(path.read_text() for path in self.folder.glob("*/nvflare.txt"))


class Hostile(link.Link):
    """A hospital's end with a good certificate that sends whatever it likes."""

    def __init__(self, kit: Kit, folder: Path, name: str = "", **about: Any) -> None:
        self.words: list[tuple[str, str]] = []
        ears = link.Ears(
            admit=lambda peer, about: "",
            came=lambda peer, about: None,
            left=lambda peer: None,
            heard=lambda peer, kind, text: self.words.append((kind, text)),
            limit=lambda peer: 1 << 30,
            room=lambda peer, n_bytes: InMemory(Memory(), n_bytes),
            arrived=lambda peer, room, trouble: None,
        )
        super().__init__(kit, folder, ears, "hostile")
        self.local_endpoint.name = name or kit.name
        self.local_endpoint.properties.update(about)
        self.start()

    def close(self) -> None:
        self.stop()

    def until_heard(self, kind: str) -> str:
        return str(
            until(lambda: [text or " " for word, text in self.words if word == kind], kind, within=60)[0]
        )

    def piece(self, number: Any, at: Any, size: Any, data: bytes) -> None:
        self._emit("server", {"kind": "piece", "number": number, "at": at, "size": size}, parts(data))


def parts(data: bytes) -> list[memoryview]:
    """Bytes in parts of uneven lengths, some of none."""
    view, cuts = memoryview(data), [0, 0, len(data) // 7, len(data) // 3, len(data), len(data)]
    return [view[start:end] for start, end in pairwise(cuts)]


@pytest.fixture
def bench(consortium: Path, tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as ends:
        yield Bench(consortium / "kits", tmp_path, ends)


@pytest.mark.parametrize("size", [1, parcels.PIECE_BYTES, parcels.PIECE_BYTES + 1, LIMIT])
def test_bytes_go_and_come_as_they_are(bench: Bench, size: int) -> None:
    north = bench.joined()
    data = os.urandom(size)
    bench.server.send("north", parts(data))
    assert north.next() == data
    assert bench.next(Sent) == Sent("north")
    assert north.answer(parts(data[::-1]))
    assert bytes(bench.next(Answered).data) == data[::-1]
    north.close()
    assert bench.next(Left) == Left("north", link.ENDED)
    assert not list((bench.folder / "server").glob("tmp*"))


def test_more_than_is_due_is_refused_at_both_ends(bench: Bench) -> None:
    north = bench.joined(limit=1000)
    bench.server.send("north", parts(bytes(1001)))
    assert bench.next(Lost).why == "has 1001 bytes where at most 1000 are due"
    assert any("did not arrive whole: has 1001 bytes" in text for text in bench.told)
    assert not north.answer(parts(bytes(LIMIT + 1)))
    assert bench.next(Lost).why == f"has {LIMIT + 1} bytes where at most {LIMIT} are due"
    assert any(text.startswith("north: what it sent did not arrive: has") for text in bench.told)
    assert north.answer(parts(b"fine"))
    assert bytes(bench.next(Answered).data) == b"fine"


def test_of_several_requests_the_last_one_counts(bench: Bench) -> None:
    north = bench.joined()
    for data in (b"one", b"two", b"three"):
        bench.server.send("north", parts(data))
        bench.next(Sent)
    assert north.next() == b"three"


def test_what_was_on_its_way_is_lost_when_the_connection_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "WINDOW_BYTES", 1 << 16)
    north, lost = bench.joined(), list[bool]()
    monkeypatch.setattr(parcels.Outbox, "hear", lambda self, peer, about: None)
    bench.server.send("north", parts(bytes(LIMIT)))
    sender = threading.Thread(target=lambda: lost.append(north.answer(parts(bytes(LIMIT)))))
    sender.start()
    until(lambda: "north" in bench.server._link._inbox._coming, "a part of it")
    north.hang_up()
    sender.join(60)
    assert lost == [False]
    found = [bench.next(kind) for kind in (Lost, Lost, Left, Came)]
    assert [event.why for event in found[:2]] == [link.ENDED] * 2
    assert "1048576 bytes" in bench.log


def test_a_peer_that_takes_nothing_is_let_go_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.let_in()
    monkeypatch.setattr(parcels, "STALL_S", 0.5)
    monkeypatch.setattr(parcels.Inbox, "take", lambda self, peer, about, piece: None)
    bench.server.send("north", parts(b"data"))
    assert [bench.next(kind).site for kind in (Lost, Left, Came)] == ["north"] * 3


# --- who is let in ------------------------------------------------------------------------------------------


def test_a_second_process_of_a_hospital_is_turned_away_and_the_first_one_undisturbed(bench: Bench) -> None:
    first = bench.joined()
    second = bench.line()
    with pytest.raises(PolysiteError, match=r"^north: another `polysite join` of this name is connected"):
        second.next()
    second.close()
    bench.server.send("north", parts(b"still there?"))
    assert first.next() == b"still there?"
    assert first.answer(parts(b"yes"))
    assert [type(bench.next(kind)) for kind in (Sent, Answered)] == [Sent, Answered]
    assert "north: a second `polysite join` was turned away; the first one takes part" in bench.told


def test_a_member_that_is_not_in_the_run_is_told_so(bench: Bench) -> None:
    bench.line("east")
    until(lambda: any(words.NO_SITE in text for text in bench.told), "the words", within=60)
    assert "east: is no site of this run and was turned away" in bench.told
    assert bench.server.next(0.1) is None


def test_another_version_of_the_messages_is_turned_away(bench: Bench) -> None:
    other = bench.hostile(format=link.FORMAT + 1)
    assert "another version of Polysite" in (other.until_heard("away"))
    assert bench.server.next(0.1) is None


@pytest.mark.parametrize("name", ["south", "server", "north.child", "nobody"])
def test_nobody_speaks_in_another_name(bench: Bench, name: str) -> None:
    bench.hostile(name=name)
    until(lambda: f"north: speaks in the name of '{name}'" in bench.log, "the refusal", within=60)
    assert bench.server.next(0.1) is None


def test_one_certificate_has_a_few_connections_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hostile, "handle_new_connection", lambda self, connection: None)  # says nothing
    for _ in range(link.MOST_CONNECTIONS + 2):
        bench.hostile()
    until(lambda: "north: has too many connections" in bench.log, "the refusal", within=60)
    bench.line("south")
    until(lambda: bench.server.next(0.1) == Came("south"), "south")


# --- what is taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([(1, 0, LIMIT + 1, b"x")], f"has {LIMIT + 1} bytes where at most {LIMIT} are due"),
        ([(1, 0, 0, b"x")], "has 0 bytes"),
        ([(1, 0, -5, b"x")], "has -5 bytes"),
        ([(1, 0, 10, b"x" * 11)], "its pieces do not fit together"),
        ([(1, 0, 10, b"")], "its pieces do not fit together"),
        ([(1, 0, 10, b"x"), (1, 5, 10, b"x")], "its pieces do not fit together"),
        ([(1, 0, 10, b"x"), (1, 1, 11, b"x")], "its pieces do not fit together"),
        ([(1, 0, 10, b"x"), (2, 0, 10, b"x")], "another one began before it was whole"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(bench: Bench, pieces: list[tuple[Any, ...]], why: str) -> None:
    north = bench.let_in()
    for piece in pieces:
        north.piece(*piece)
    assert why in bench.next(Lost).why
    north.piece(7, 0, 2, b"ok")
    found = until(
        lambda: [one for one in [bench.server.next(0.1)] if isinstance(one, Answered)], "the answer"
    )
    assert bytes(found[0].data) == b"ok"


def test_strange_messages_change_nothing(bench: Bench) -> None:
    north = bench.let_in()
    strange: list[Any] = [
        {},
        {"kind": "piece"},
        {"kind": "piece", "number": "1", "at": None, "size": []},
        {"kind": "piece", "number": 1, "at": True, "size": 1},
        {"kind": "got", "number": 1, "upto": 10**12},
        {"kind": "lost", "number": 1},
        {"kind": ["piece"]},
        {"kind": "welcome", "text": "x" * 60_000},
        {"kind": "exec", "text": "import os"},
        # as NVFlare's own cells would have it: in another's name, to be passed on, to be unpacked, to be connected to
        {"origin": "south", "destination": "south", "channel": "x", "topic": "y", "msg_type": "req"},
        {
            "origin": "north",
            "destination": "server",
            "payload_encoding": "fobs",
            "conn_url": "tcp://127.0.0.1:9",
        },
    ]
    for about in strange:
        north._emit("server", about, parts(b"\x80\x04cos\nsystem\n"))
    sfm = north._current["server"]
    for frame in (b"", b"\xff" * 16, b"\x00" * 15, b"\xff" * 100_000):
        sfm.conn.send_frame(frame)
    sfm.send_dict(4, 1, {"endpoint_name": "south"})  # a second greeting, in another's name
    north.piece(1, 0, 2, b"ok")
    assert bytes(bench.next(Answered).data) == b"ok"


def test_thousands_of_messages_cost_no_memory(bench: Bench) -> None:
    north = bench.let_in()
    before = memory_mb()
    for number in range(20_000):
        north._emit("server", {"kind": f"word-{number}", "text": "x" * 1000}, ())
        north.piece(number, 0, 2, b"ok")
    data = os.urandom(parcels.PIECE_BYTES)
    for number in range(400):  # 100 MB, never whole
        north.piece(number, 0, LIMIT, data)
    bench.line("south")
    seen: list[Event] = []
    until(lambda: seen.append(bench.server.next(0.1)) or seen[-1] == Came("south"), "south")
    answers = [event for event in seen if isinstance(event, Answered)]
    assert len(answers) < 20_000
    assert memory_mb() - before < 150  # sender and receiver are one process here
    assert (bench.folder / "server" / "nvflare.txt").stat().st_size <= 2 * link.LOG_BYTES


def memory_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_a_disk_without_room_at_the_server_is_told_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = bench.joined()

    def full(site: str, n_bytes: int) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.server._link._inbox, "_room", full)
    assert not north.answer(parts(b"data"))
    assert bench.next(Lost).why == "cannot be kept here: No space left on device"
    assert bench.told[-2:].count(
        "north: what it sent did not arrive: cannot be kept here: No space left on device"
    )
    assert any("did not reach the server (could not be kept)" in text for text in bench.told)


def test_an_answer_that_cannot_be_read_is_lost_and_the_next_one_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = bench.joined()

    def unreadable(room: InFile) -> memoryview:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(InFile, "content", unreadable)
        for _ in range(MOST_UNREAD + 1):
            north.answer(parts(b"data"))
            assert bench.next(Lost).why == "cannot be read here: Cannot allocate memory"
    assert north.answer(parts(b"fine"))
    assert bytes(bench.next(Answered).data) == b"fine"


# --- a server that comes and goes ---------------------------------------------------------------------------


def test_a_hospital_finds_a_server_that_was_started_again(bench: Bench) -> None:
    north = bench.joined()
    bench.server.send("north", parts(b"last words"))
    bench.server.close()
    assert north.next() == b"last words"
    assert not north.answer(parts(b"too late"))
    bench.server = bench.serve()
    bench.next(Came)
    connected = f"north: connected to localhost:{bench.kit('north').port}"
    until(lambda: bench.told.count(connected) == 2, "the connection")
    assert north.answer(parts(b"in time"))
    assert bytes(bench.next(Answered).data) == b"in time"


def test_a_port_that_is_taken_is_named(bench: Bench) -> None:
    with pytest.raises(PolysiteError, match=r"cannot listen there: Address already in use"):
        bench.serve()
