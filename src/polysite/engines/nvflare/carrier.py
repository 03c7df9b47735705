"""The server's carrier: a cell that all hospitals connect to; what arrives lies on disk until it is read."""

import mmap
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from polysite.engines.nvflare.cell import Cell
from polysite.engines.nvflare.words import HELLO, TAKEN
from polysite.federation.carrier import Answered, Came, Event, Left, Lost, Sent
from polysite.kits.kit import Kit


class NVFlare:
    """Carries payloads to hospitals that joined with `polysite join`.

    Parameters
    ----------
    folder : Path
        For NVFlare's settings, what it says, and what has arrived and was not read yet.
    limits : mapping of str to int
        The sites, and the most bytes that each may send at once.
    listen : str
        The address at which hospitals are awaited.
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
        self._folder, self._limits, self._tell = folder, limits, tell
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._who: dict[str, str] = {}
        self._lock = threading.Lock()
        self._cell = Cell(kit, folder, limits, listen=listen)
        self._cell.listen_for(HELLO, self._greeted)
        self._cell.receive(limits.__getitem__, self._room, self._arrived)
        self._cell.start(self._changed)

    def send(self, site: str, data: bytes) -> None:
        """See `polysite.federation.carrier.Carrier`."""
        self._cell.send(site, data, partial(self._sent, site))

    def next(self, timeout_s: float) -> Event | None:
        """See `polysite.federation.carrier.Carrier`."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Let go of all hospitals."""
        self._cell.close()

    # --- NVFlare's threads ----------------------------------------------------------------------------------

    def _changed(self, site: str, connected: bool) -> None:
        """A site is there when it has said who it is; it is gone when its last connection is."""
        if not connected:
            with self._lock:
                known = self._who.pop(site, None)
            if known:
                self._events.put(Left(site, "its connection ended"))

    def _greeted(self, site: str, process: str) -> None:
        """Each process of a site has a name of its own: two at a time are one too many."""
        with self._lock:
            known = self._who.get(site)
            if known is None:
                self._who[site] = process
                self._events.put(Came(site))
        if known in (None, process):
            return
        self._tell(f"{site}: a second `polysite join` of that name was turned away")
        for _ in range(2):  # the cell sends by turns over all connections of a name
            self._cell.say(site, TAKEN, process)
        threading.Timer(1.0, partial(self._cell.drop, site, keep=1)).start()

    def _sent(self, site: str, trouble: str | None) -> None:
        self._events.put(Sent(site) if trouble is None else Lost(site, trouble))

    def _room(self, site: str) -> BinaryIO:
        """A file that is gone when nobody reads it any more."""
        return tempfile.TemporaryFile(dir=self._folder)

    def _arrived(self, site: str, file: BinaryIO | None, trouble: str) -> None:
        if file is None:
            self._events.put(Lost(site, trouble))
            return
        with file:
            file.flush()
            empty = file.tell() == 0
            data = b"" if empty else memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._events.put(Answered(site, data))
