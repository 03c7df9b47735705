"""A door between Polysite and a carrier's processes on one machine: a Unix socket that only the user can reach.

The carrier's processes come and go and see nothing but bytes; the process that has the models and the scans stays.
A frame is: one byte, whether it is an answer or a trouble; two bytes, the length of the site's name; the name; eight
bytes, the length of the content; the content. No torch here: a carrier's process starts in a moment.
"""

import select
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "POLYSITE_DOOR"
"""Environment variable by which a carrier's processes find the socket; they inherit it, nobody has to set it."""
CONTENT, TROUBLE = b"c", b"t"
MOST_BYTES = 1 << 33


class Closed(Exception):
    """The other side is gone, or was told to go."""


def send(channel: socket.socket, site: str, content: bytes, *, trouble: bool = False) -> None:
    """Write one frame.

    Raises
    ------
    Closed
        If nobody reads it.
    """
    name = site.encode()
    head = (TROUBLE if trouble else CONTENT) + len(name).to_bytes(2, "little") + name
    try:
        channel.sendall(head + len(content).to_bytes(8, "little"))
        channel.sendall(content)
    except OSError as error:
        raise Closed(str(error)) from error


def receive(
    channel: socket.socket, stopped: Callable[[], bool] = lambda: False, poll_s: float = 0.5
) -> tuple[str, bytes, bool]:
    """Read one frame: site, content, and whether it tells of a trouble.

    Parameters
    ----------
    stopped : callable
        Asked every ``poll_s`` seconds whether to give up.

    Raises
    ------
    Closed
        If the other side is gone, or ``stopped`` says so.
    """

    def take(n: int) -> bytearray:
        return _exactly(channel, n, stopped, poll_s)

    kind = take(1)
    name = take(int.from_bytes(take(2), "little"))
    length = int.from_bytes(take(8), "little")
    if bytes(kind) not in (CONTENT, TROUBLE) or length > MOST_BYTES:
        raise Closed("what came is no frame")
    return name.decode(), bytes(take(length)), bytes(kind) == TROUBLE


def _exactly(channel: socket.socket, n: int, stopped: Callable[[], bool], poll_s: float) -> bytearray:
    room = bytearray(n)
    view, done = memoryview(room), 0
    ready = select.poll()  # a timeout of the socket's own would also break off what another thread sends
    ready.register(channel, select.POLLIN)
    while done < n:
        if stopped():
            raise Closed("told to stop")
        if not ready.poll(1000 * poll_s):
            continue
        try:
            got = channel.recv_into(view[done:])
        except OSError as error:
            raise Closed(str(error)) from error
        if not got:
            raise Closed("the other side is gone")
        done += got
    return room


def knock(path: str) -> socket.socket:
    """Connect to a door."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.connect(path)
    except OSError as error:
        channel.close()
        raise Closed(f"{path}: {error.strerror}") from error
    return channel


class Door:
    """The side that waits for a carrier's process."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="polysite-"))  # made with mode 0700
        self.path = str(self._folder / "door")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen(4)

    def wait(self, stopped: Callable[[], bool], poll_s: float = 0.2) -> socket.socket:
        """The next process that knocks.

        Raises
        ------
        Closed
            If ``stopped`` says so before.
        """
        self._socket.settimeout(poll_s)
        while True:
            if stopped():
                raise Closed("told to stop")
            try:
                channel, _ = self._socket.accept()
            except TimeoutError:
                continue
            return channel

    def close(self) -> None:
        """Remove the socket and its folder."""
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)
