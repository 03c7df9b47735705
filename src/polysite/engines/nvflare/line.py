"""A hospital's line to the server: a cell that brings its requests and takes the answers back."""

import io
import queue
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from polysite.engines.nvflare.cell import SERVER, Cell
from polysite.engines.nvflare.probe import trouble_reaching
from polysite.engines.nvflare.words import HELLO, TAKEN
from polysite.errors import PolysiteError
from polysite.kits.kit import Kit

PATIENCE_S = 10.0
"""How long a connection may take before it is looked into."""
HELLO_S = 15.0
"""How often a hospital says that it is there; a word may be lost."""
POLL_S = 0.5


class Line:
    """The hospital's end; used by one thread.

    Parameters
    ----------
    folder : Path
        For NVFlare's settings and what it says.
    limit : callable
        The most bytes that the server may send now.
    """

    def __init__(self, kit: Kit, folder: Path, limit: Callable[[], int], tell: Callable[[str], None]) -> None:
        self._kit, self._tell = kit, tell
        self._process = uuid.uuid4().hex
        self._requests: queue.SimpleQueue[bytes | PolysiteError] = queue.SimpleQueue()
        self._connected, self._ended = threading.Event(), threading.Event()
        self._told = ""
        self._cell = Cell(kit, folder, [SERVER])
        self._cell.listen_for(TAKEN, self._taken)
        self._cell.receive(lambda peer: limit(), lambda peer: io.BytesIO(), self._arrived)
        self._cell.start(self._changed)
        threading.Thread(target=self._greet, daemon=True).start()

    def next(self) -> bytes:
        """The server's next request.

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
            if isinstance(request, PolysiteError):
                raise request
            return request

    def answer(self, data: bytes) -> bool:
        """Send an answer; whether it has arrived. If not, the server asks again."""
        done: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._cell.send(SERVER, data, done.put)
        while True:
            with suppress(queue.Empty):
                arrived = done.get(timeout=POLL_S) is None
                break
            if not self._connected.is_set():
                arrived = False
                break
        if not arrived:
            self._tell(f"{self._kit.name}: the answer did not reach the server, which will ask again")
        return arrived

    def close(self) -> None:
        """Hang up."""
        self._ended.set()
        self._cell.close()

    # --- other threads --------------------------------------------------------------------------------------

    def _changed(self, peer: str, connected: bool) -> None:
        (self._connected.set if connected else self._connected.clear)()
        if connected:
            self._cell.say(SERVER, HELLO, self._process)

    def _greet(self) -> None:
        """Say hello now and then; say what is the matter where there is no connection."""
        name = self._kit.name
        while not self._ended.is_set():
            if self._connected.wait(PATIENCE_S):
                self._say(f"{name}: connected to {self._kit.server}:{self._kit.port}")
                self._cell.say(SERVER, HELLO, self._process)
                self._ended.wait(HELLO_S)
            elif not self._ended.is_set():
                self._say(f"{name}: not connected: {trouble_reaching(self._kit)}; trying again")

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._tell(text)

    def _taken(self, peer: str, process: str) -> None:
        if process == self._process:
            self._requests.put(
                PolysiteError(
                    f"{self._kit.name}: another `polysite join` of this name is connected to the server; stop that "
                    "one, or wait a minute if its machine has just gone down"
                )
            )

    def _arrived(self, peer: str, file: BinaryIO | None, trouble: str) -> None:
        if file is None:
            self._tell(f"{self._kit.name}: a request of the server did not arrive whole: {trouble}")
            return
        assert isinstance(file, io.BytesIO)
        self._requests.put(file.getvalue())
