"""Bytes that go in pieces over a connection, in order, with a window; what arrives is written down piece by piece.

A connection keeps pieces in order and loses none. When it ends, everything that was on its way over it is lost, at
both ends, and whoever needs it sends it again over the next one. So neither end ever holds more of what arrives than
one piece, nor more of what goes than a window, whatever the other one does.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polysite.engines.nvflare.rooms import Room

PIECE_BYTES = 1 << 19
WINDOW_BYTES = 1 << 21
"""The most that is on its way without the other end's word that it has arrived: what a slow line carries while a
connection is asked whether it still stands."""
STALL_S = 120.0
"""A parcel of which nothing has arrived for so long is given up."""
PIECE, GOT, LOST = "piece", "got", "lost"
"""Kinds of messages: a part of a parcel, and the receiver's words about it."""
Emit = Callable[[str, Mapping[str, Any], Sequence[memoryview]], None]
"""Sends one message to a peer, its bytes given in parts; returns at once."""
Done = Callable[[str | None], None]
"""Hears None when all has arrived, or what went wrong."""

_log = logging.getLogger("nvflare.polysite")


@dataclass
class _Going:
    """A parcel on its way to a peer."""

    number: int
    rest: deque[memoryview]
    """What has not been sent, in parts."""
    size: int
    done: Done
    sent: int = 0
    arrived: int = 0
    moved: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether the next piece may go."""
        return self.sent < self.size and self.sent - self.arrived < WINDOW_BYTES

    def piece(self) -> list[memoryview]:
        """Take the next piece, in parts."""
        parts, room = [], PIECE_BYTES
        while room and self.rest:
            part = self.rest.popleft()
            if len(part) > room:
                self.rest.appendleft(part[room:])
            parts.append(part[:room])
            room -= len(parts[-1])
        self.sent += PIECE_BYTES - room
        return parts


class Outbox:
    """Parcels that go out: to each peer one after the other."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._lock = threading.RLock()
        self._going: defaultdict[str, deque[_Going]] = defaultdict(deque)
        self._number = 0

    def send(self, peer: str, data: Sequence[memoryview], done: Done) -> None:
        """Begin to send."""
        size = sum(len(part) for part in data)
        with self._lock:
            self._number += 1
            self._going[peer].append(_Going(self._number, deque(data), size, done))
            self._push(peer)

    def hear(self, peer: str, about: Mapping[str, Any]) -> None:
        """Take the receiver's word that a parcel has arrived up to some byte, or is refused."""
        with self._lock:
            queue = self._going[peer]
            if not queue or queue[0].number != about.get("number"):
                return
            going, upto, trouble = queue[0], about.get("upto"), None
            if about["kind"] == LOST:
                trouble = str(about.get("why"))[:1000]
            elif type(upto) is int and going.arrived < upto <= going.sent:
                going.arrived, going.moved = upto, time.monotonic()
                self._push(peer)
            if trouble is None and going.arrived < going.size:
                return
            queue.popleft()
            if queue:
                queue[0].moved = time.monotonic()
            self._push(peer)
        going.done(trouble)

    def drop(self, peer: str, why: str) -> None:
        """Give up everything that is on its way to a peer."""
        with self._lock:
            dropped = self._going.pop(peer, ())
        for going in dropped:
            going.done(why)

    def stalled(self) -> list[str]:
        """Peers to whom nothing has got through for too long."""
        with self._lock:
            late = time.monotonic() - STALL_S
            return [peer for peer, queue in self._going.items() if queue and queue[0].moved < late]

    def _push(self, peer: str) -> None:
        queue = self._going[peer]
        while queue and queue[0].due:
            going = queue[0]
            about = {"kind": PIECE, "number": going.number, "at": going.sent, "size": going.size}
            self._emit(peer, about, going.piece())


@dataclass
class _Coming:
    """A parcel of which a part has arrived."""

    number: int
    size: int
    room: Room
    at: int = 0


class Inbox:
    """Parcels that come in: from each peer one at a time.

    Parameters
    ----------
    limit : callable
        Peer -> the most bytes that it may send now.
    room : callable
        Peer and bytes -> where they are written down.
    arrived : callable
        Told of the peer, where its parcel is (None if it did not arrive whole) and what went wrong.
    """

    def __init__(
        self,
        emit: Emit,
        limit: Callable[[str], int],
        room: Callable[[str, int], Room],
        arrived: Callable[[str, Room | None, str], None],
    ) -> None:
        self._emit, self._limit, self._room, self._arrived = emit, limit, room, arrived
        self._coming: dict[str, _Coming] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def take(self, peer: str, about: Mapping[str, Any], piece: memoryview) -> None:
        """Write down the next piece of a parcel, or refuse the whole of it."""
        number, at, size = (about.get(key) for key in ("number", "at", "size"))
        if type(number) is not int or type(at) is not int or type(size) is not int:
            _log.warning("%s: sent a piece without its place", peer)
            return
        with self._locks[peer]:
            if at == 0:
                self._forget(peer, "another one began before it was whole")
                if not self._begin(peer, number, size):
                    return
            coming = self._coming.get(peer)
            if coming is None or coming.number != number:
                return  # the rest of one that was refused
            if at != coming.at or size != coming.size or not 0 < len(piece) <= min(size - at, PIECE_BYTES):
                self._refuse(peer, number, "its pieces do not fit together")
                return
            try:
                coming.room.write(piece)
            except OSError as error:
                self._refuse(peer, number, "could not be kept", f"cannot be kept here: {error.strerror}")
                return
            coming.at += len(piece)
            if coming.at == size:
                self._arrived(peer, self._coming.pop(peer).room, "")
            self._emit(peer, {"kind": GOT, "number": number, "upto": coming.at}, ())

    def drop(self, peer: str, why: str) -> None:
        """Give up what has not arrived whole."""
        with self._locks[peer]:
            self._forget(peer, why)

    def _begin(self, peer: str, number: int, size: int) -> bool:
        most = self._limit(peer)
        if not 0 < size <= most:
            self._refuse(peer, number, f"has {size} bytes where at most {most} are due")
            return False
        try:
            self._coming[peer] = _Coming(number, size, self._room(peer, size))
        except OSError as error:
            self._refuse(peer, number, "could not be kept", f"cannot be kept here: {error.strerror}")
            return False
        return True

    def _refuse(self, peer: str, number: int, why: str, here: str = "") -> None:
        """Say at both ends what is the matter; ``here`` in other words."""
        if peer in self._coming:
            self._forget(peer, here or why)
        else:
            self._arrived(peer, None, here or why)
        self._emit(peer, {"kind": LOST, "number": number, "why": why}, ())

    def _forget(self, peer: str, why: str) -> None:
        if (coming := self._coming.pop(peer, None)) is not None:
            coming.room.close()
            _log.warning("%s: of %d bytes %d arrived: %s", peer, coming.size, coming.at, why)
            self._arrived(peer, None, why)
