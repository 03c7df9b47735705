"""The server's carrier: all hospitals connect to it; what arrives lies on disk until it is read."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from polysite.engines.nvflare.link import ENDED, FORMAT, Ears, Link
from polysite.engines.nvflare.rooms import Files, Room
from polysite.engines.nvflare.words import NO_SITE, OTHER, TAKEN
from polysite.federation.carrier import Answered, Came, Event, Left, Lost, Sent
from polysite.kits.kit import Kit

MOST_UNREAD = 4
"""Parcels of one site that may wait to be read."""


class NVFlare:
    """Carries payloads to hospitals that joined with `polysite join`.

    Parameters
    ----------
    folder : Path
        For what NVFlare says, and what has arrived and was not read yet.
    limits : mapping of str to int
        The sites, and the most bytes that each may send at once.
    listen : str
        The address at which hospitals are awaited.
    tell : callable
        Told in words of hospitals that are turned away.
    """

    def __init__(
        self,
        kit: Kit,
        folder: Path,
        limits: Mapping[str, int],
        *,
        listen: str,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._limits, self._tell = limits, tell
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._who: dict[str, object] = {}
        self._told: set[str] = set()
        self._unread = Counter[str]()
        self._lock = threading.Lock()
        self._files = Files(folder)
        ears = Ears(
            admit=self._admit,
            came=self._came,
            left=self._left,
            heard=lambda site, kind, text: None,
            limit=self._limit,
            room=lambda site, n_bytes: self._files.room(),
            arrived=self._arrived,
        )
        self._link = Link(kit, folder, ears, "", listen=listen)
        self._link.start()

    def send(self, site: str, data: Sequence[memoryview]) -> None:
        """See `polysite.federation.carrier.Carrier`."""
        self._link.send(site, data, partial(self._sent, site))

    def next(self, timeout_s: float) -> Event | None:
        """See `polysite.federation.carrier.Carrier`."""
        self._link.hang_up_on_stalled()
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(event, Answered):
            with self._lock:
                self._unread[event.site] -= 1
        return event

    def close(self) -> None:
        """Let go of all hospitals."""
        self._link.close()
        self._files.close()

    # --- other threads --------------------------------------------------------------------------------------

    def _admit(self, site: str, about: Mapping[str, Any]) -> str:
        """Each process of a site has a name of its own: two at a time are one too many."""
        if about.get("format") != FORMAT:
            self._tell_once(f"{site}: has another version of Polysite and was turned away")
            return OTHER
        if site not in self._limits:
            self._tell_once(f"{site}: is no site of this run and was turned away")
            return NO_SITE
        if self._who.get(site, about.get("process")) != about.get("process"):
            self._tell_once(f"{site}: a second `polysite join` was turned away; the first one takes part")
            return TAKEN
        return ""

    def _came(self, site: str, about: Mapping[str, Any]) -> None:
        self._who[site] = about.get("process")
        self._events.put(Came(site))

    def _left(self, site: str) -> None:
        self._who.pop(site, None)
        self._events.put(Left(site, ENDED))

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _sent(self, site: str, trouble: str | None) -> None:
        self._events.put(Sent(site) if trouble is None else Lost(site, trouble))

    def _limit(self, site: str) -> int:
        with self._lock:
            return self._limits[site] if self._unread[site] < MOST_UNREAD else 0

    def _arrived(self, site: str, room: Room | None, trouble: str) -> None:
        content = None
        if room is not None:
            try:
                content = room.content()
            except OSError as error:
                room.close()
                trouble = f"cannot be read here: {error.strerror}"
        if room is None or content is None:
            if trouble != ENDED:
                self._tell_once(f"{site}: what it sent did not arrive: {trouble}")
            self._events.put(Lost(site, trouble))
            return
        with self._lock:
            self._unread[site] += 1
        self._events.put(Answered(site, content, room.rest))
