"""A hospital's line to the server: it brings the server's requests and takes the answers back."""

import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from polysite.engines.nvflare.link import AWAY, BYE, FORMAT, SERVER, WELCOME, Ears, Link
from polysite.engines.nvflare.probe import trouble_reaching
from polysite.engines.nvflare.rooms import InMemory, Room
from polysite.engines.nvflare.words import OTHER, TAKEN
from polysite.errors import PolysiteError
from polysite.federation.memory import Memory
from polysite.kits.kit import Kit

PATIENCE_S = 10.0
"""How long a connection may take before it is looked into."""
POLL_S = 0.5


class Line:
    """The hospital's end; used by one thread.

    Parameters
    ----------
    folder : Path
        For what NVFlare says.
    limit : callable
        The most bytes that the server may send now.
    """

    def __init__(self, kit: Kit, folder: Path, limit: Callable[[], int], tell: Callable[[str], None]) -> None:
        self._kit, self._tell = kit, tell
        self._requests: queue.SimpleQueue[memoryview | PolysiteError] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._let_in, self._ended, self._turned_away = False, False, ""
        self._told = ""
        memory = Memory()
        ears = Ears(
            admit=self._admit,
            came=self._came,
            left=self._left,
            heard=self._heard,
            limit=lambda peer: limit(),
            room=lambda peer, n_bytes: InMemory(memory, n_bytes),
            arrived=self._arrived,
        )
        self._link = Link(kit, folder, ears, uuid.uuid4().hex)
        self._link.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def next(self) -> memoryview:
        """The server's next request; of several the last, because it asks one thing at a time.

        Raises
        ------
        PolysiteError
            If another process of this hospital is connected.
        """
        while True:
            try:
                request = self._requests.get(timeout=POLL_S)
            except queue.Empty:
                continue
            with suppress(queue.Empty):
                while not isinstance(request, PolysiteError):
                    request = self._requests.get_nowait()
            if isinstance(request, PolysiteError):
                raise request
            return request

    def answer(self, data: Sequence[memoryview]) -> bool:
        """Send an answer, given in parts; whether it has arrived. If not, the server asks again."""
        done: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._link.send(SERVER, data, done.put)
        while True:
            with suppress(queue.Empty):
                trouble = done.get(timeout=POLL_S)
                break
            self._link.hang_up_on_stalled()
        if trouble is not None:
            self._tell(
                f"{self._kit.name}: the answer did not reach the server ({trouble}), which asks again if the run "
                "goes on"
            )
        return trouble is None

    def hang_up(self) -> None:
        """End the connection; it is made again, and the server asks again."""
        self._link.hang_up(SERVER)

    def close(self) -> None:
        """Hang up for good."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._link.close()

    # --- other threads --------------------------------------------------------------------------------------

    def _admit(self, peer: str, about: Mapping[str, Any]) -> str:
        if about.get("format") == FORMAT:
            return ""
        with self._changed:
            self._turned_away = OTHER
            self._changed.notify_all()
        return OTHER

    def _came(self, peer: str, about: Mapping[str, Any]) -> None:
        """The server's word whether it lets us in is still to come."""
        self._turned_away = ""

    def _left(self, peer: str) -> None:
        with self._changed:
            self._let_in = False
            self._changed.notify_all()

    def _heard(self, peer: str, kind: str, text: str) -> None:
        if kind == BYE:
            self._link.hang_up(SERVER)
        with self._changed:
            if kind == WELCOME:
                self._let_in = True
            elif kind == AWAY:
                self._turned_away = text
            self._changed.notify_all()
        if kind == AWAY and text == TAKEN:
            self._requests.put(
                PolysiteError(
                    f"{self._kit.name}: {text}; stop that one, or wait a minute if its machine has just gone down"
                )
            )

    def _watch(self) -> None:
        """Say that there is a connection, or what is the matter where there is none."""
        name, where = self._kit.name, f"{self._kit.server}:{self._kit.port}"
        while not self._ended:
            self._wait_for(lambda: self._let_in or bool(self._turned_away))
            let_in, turned_away = self._let_in, self._turned_away
            if self._ended:
                return
            if let_in:
                self._say(f"{name}: connected to {where}")
            elif turned_away:
                self._say(f"{name}: {where} turns this hospital away: {turned_away}; trying again")
            else:
                self._say(f"{name}: not connected: {trouble_reaching(self._kit)}; trying again")
            self._wait_for(partial(self._differs, let_in, turned_away))
            if let_in and not self._let_in and not self._ended:
                self._say(f"{name}: the connection to {where} ended; trying again")

    def _differs(self, let_in: bool, turned_away: str) -> bool:
        return (self._let_in, self._turned_away) != (let_in, turned_away)

    def _wait_for(self, true: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or true(), timeout=PATIENCE_S)

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._tell(text)

    def _arrived(self, peer: str, room: Room | None, trouble: str) -> None:
        if room is None:
            self._say(f"{self._kit.name}: a request of the server did not arrive whole: {trouble}")
            return
        self._requests.put(room.content())
