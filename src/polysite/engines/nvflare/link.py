"""One end of NVFlare's connections with mutual TLS, over which messages of ours go and nothing else.

Of NVFlare only the lowest layer is used (`nvflare.fuel.f3.sfm`): connections over gRPC, made again when they end, and
the name by which each end speaks, which has to be the common name in its certificate. Nothing that this layer could
do for a peer beyond bringing bytes to us is within a peer's reach: no object is built from what arrives, nothing is
passed on for others, no address that a peer names is connected to.

A message has a small dictionary, its ``kind`` above all, and bytes.
"""

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from nvflare.fuel.f3.drivers.connector_info import Mode
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.f3.drivers.grpc_driver import GrpcDriver, Server
from nvflare.fuel.f3.drivers.net_utils import parse_url
from nvflare.fuel.f3.endpoint import Endpoint
from nvflare.fuel.f3.sfm.conn_manager import ConnManager
from nvflare.fuel.f3.sfm.constants import HandshakeKeys, Types
from nvflare.fuel.f3.sfm.prefix import PREFIX_LEN, Prefix
from nvflare.fuel.f3.sfm.sfm_conn import SfmConnection

from polysite.engines.nvflare.parcels import GOT, LOST, PIECE, PIECE_BYTES, Done, Inbox, Outbox
from polysite.engines.nvflare.rooms import Room
from polysite.errors import PolysiteError
from polysite.kits.kit import Kit

SERVER = "server"
"""The name by which the server speaks."""
FORMAT = 2
"""Of the messages and of what they carry; another one is turned away."""
LOG, LOG_BYTES = "nvflare.txt", 4 << 20
"""What NVFlare says, in the link's folder; as much again is kept of what came before."""
KEEPALIVE_MS = 15_000
"""A connection over which nothing has come is asked so often whether it still stands; it may answer twice as long."""
HANDSHAKE_MS = 20_000
"""How long a connection may take to say who it is."""
WELCOME, AWAY, BYE = "welcome", "away", "bye"
"""Words: a peer has been let in, has not been, is asked to hang up."""
APP = 1
MOST_CONNECTIONS = 4
"""Of one certificate."""
MOST_WAITING = 1000
"""Messages that a peer may leave unread."""
FAREWELL_S = 2.0
LISTEN_S = 30.0
ENDED = "its connection ended"
"""Why a parcel was lost that was on its way."""

_log = logging.getLogger("nvflare.polysite")


@dataclass(frozen=True)
class Ears:
    """Who is told of what happens; by threads of the link, and it must not keep them waiting.

    Parameters
    ----------
    admit : callable
        The name of a peer and what it said of itself -> why it is turned away, or nothing.
    came : callable
        Told of a peer and what it said of itself; one that was there already has left before.
    left : callable
        Told of a peer.
    heard : callable
        Told of a peer, the kind of a word, and its text.
    limit, room, arrived : callable
        See `polysite.engines.nvflare.parcels.Inbox`.
    """

    admit: Callable[[str, Mapping[str, Any]], str]
    came: Callable[[str, Mapping[str, Any]], None]
    left: Callable[[str], None]
    heard: Callable[[str, str, str], None]
    limit: Callable[[str], int]
    room: Callable[[str, int], Room]
    arrived: Callable[[str, Room | None, str], None]


class _Driver(GrpcDriver):
    """NVFlare's, but what is stopped while it begins ends all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.listens = threading.Event()

    def listen(self, connector: Any) -> None:
        self.connector = connector
        self.server = Server(self, connector, self.max_workers, self.options)
        serving = self.server.grpc_server
        serving.start()
        self.listens.set()
        serving.wait_for_termination()

    def add_connection(self, conn: Any) -> None:
        super().add_connection(conn)
        if self.closing:
            conn.close()


class Link(ConnManager):
    """Connections to the server, or of hospitals.

    Parameters
    ----------
    kit : Kit
        Who this end is, and where the server is.
    folder : Path
        For what NVFlare says.
    process : str
        Tells this process from all others of its name.
    listen : str, optional
        The address at which a server listens.
    """

    def __init__(self, kit: Kit, folder: Path, ears: Ears, process: str, *, listen: str = "0.0.0.0") -> None:
        self._log = _write_log(folder)
        self._is_server = kit.role == "server"
        name = SERVER if self._is_server else kit.name
        super().__init__(Endpoint(name, {"format": FORMAT, "process": process}))
        self._ears, self._entry = ears, threading.RLock()
        self._current: dict[str, Any] = {}
        self._nobody = threading.Condition()
        self._outbox = Outbox(self._emit)
        self._inbox = Inbox(self._emit, ears.limit, ears.room, ears.arrived)
        self.register_message_receiver(APP, self)
        host = listen if self._is_server else kit.server
        if self._is_server:
            _require_free(host, kit.port)
        self._driver = driver = _Driver()
        driver.options, driver.max_workers = _options(), 1000
        side = "server" if self._is_server else "client"
        params = {
            **parse_url(f"grpc://{host}:{kit.port}"),
            DriverParams.SECURE.value: True,
            DriverParams.CONNECTION_SECURITY.value: "mtls",
            DriverParams.CA_CERT.value: str(kit.authority),
            f"{side}_cert": str(kit.certificate),
            f"{side}_key": str(kit.key),
        }
        self.add_connector(driver, params, Mode.PASSIVE if self._is_server else Mode.ACTIVE)

    def start(self) -> None:
        """Connect, or listen.

        Raises
        ------
        PolysiteError
            If this end cannot listen.
        """
        super().start()
        if self._is_server and not self._driver.listens.wait(LISTEN_S):
            self.stop()
            raise PolysiteError(f"cannot listen for hospitals; {self._log} says why")

    def send(self, peer: str, data: Sequence[memoryview], done: Done) -> None:
        """Begin to send a parcel, given in parts."""
        with self._entry:
            if there := peer in self._current:
                self._outbox.send(peer, data, done)
        if not there:
            done(ENDED)

    def say(self, peer: str, kind: str, text: str = "") -> None:
        """Send a word."""
        self._emit(peer, {"kind": kind, "text": text}, ())

    def hang_up(self, peer: str) -> None:
        """End a peer's connection; one to the server is made again."""
        if connection := self._current.get(peer):
            _end(connection.conn)

    def hang_up_on_stalled(self) -> None:
        """End connections over which parcels do not get through."""
        for peer in self._outbox.stalled():
            _log.warning("%s: takes nothing of what is sent", peer)
            self.hang_up(peer)

    def close(self) -> None:
        """End all connections; hospitals are asked to do so, so that all that was said reaches them."""
        if self._is_server:
            for peer in list(self._current):
                self.say(peer, BYE)
            with self._nobody:
                self._nobody.wait_for(lambda: not self._current, FAREWELL_S)
        self.stop()

    # --- NVFlare's threads ----------------------------------------------------------------------------------

    def handle_new_connection(self, connection: Any) -> None:
        """Let go of what one certificate has too much of, before anything is read from it."""
        with self.lock:
            names = [_common_name(other.conn) for other in self.sfm_conns.values()]
        if self._is_server and names.count(_common_name(connection)) >= MOST_CONNECTIONS:
            _log.warning("%s: has too many connections", _common_name(connection))
            _end(connection)
            return
        super().handle_new_connection(connection)

    def process_frame(self, sfm_conn: Any, frame: bytes) -> None:
        """Work off what comes in the thread that reads it: in order, and no faster than it can be kept."""
        if sfm_conn.conn.oq.q.qsize() > MOST_WAITING:
            _log.warning("%s: does not read its answers", _common_name(sfm_conn.conn))
            _end(sfm_conn.conn)
            return
        self.process_frame_task(sfm_conn, memoryview(frame))

    def update_endpoint(self, sfm_conn: Any, data: Mapping[str, Any]) -> None:
        """Let a peer in, or turn it away, when it has said who it is; once for each connection."""
        if sfm_conn.sfm_endpoint is not None:
            return
        name = data.get(HandshakeKeys.ENDPOINT_NAME)
        due = _common_name(sfm_conn.conn) if self._is_server else SERVER
        if not isinstance(name, str) or name != due:
            _log.warning("%s: speaks in the name of %.60r", due, name)
            _end(sfm_conn.conn)
            return
        with self._entry:
            if refusal := self._ears.admit(name, data):
                self._turn_away(sfm_conn, refusal)
                return
            if (before := self._current.pop(name, None)) is not None:
                _end(before.conn)
                self._lose(name)
            super().update_endpoint(sfm_conn, dict(data))
            self._current[name] = sfm_conn
            self._ears.came(name, data)
        if self._is_server:
            self.say(name, WELCOME)

    def close_connection(self, connection: Any) -> None:
        """A peer has left when the connection that counts has ended."""
        super().close_connection(connection)
        with self._entry:
            for name, current in list(self._current.items()):
                if current.conn is connection:
                    del self._current[name]
                    self._lose(name)
        with self._nobody:
            self._nobody.notify_all()

    def process_message(self, endpoint: Any, connection: Any, app_id: int, message: Any) -> None:
        """One message of a peer that was let in."""
        current, about = self._current.get(endpoint.name), message.headers
        if current is None or current.conn is not connection or not isinstance(about, dict):
            return
        peer, kind = endpoint.name, about.get("kind")
        if kind == PIECE:
            self._inbox.take(peer, about, message.payload or memoryview(b""))
        elif kind in (GOT, LOST):
            self._outbox.hear(peer, about)
        elif kind in (WELCOME, AWAY, BYE):
            self._ears.heard(peer, kind, str(about.get("text"))[:1000])
        else:
            _log.warning("%s: sent a message of the kind %.60r", peer, kind)

    def _turn_away(self, sfm_conn: Any, why: str) -> None:
        _log.warning("%s: was turned away: %s", _common_name(sfm_conn.conn), why)
        _send(sfm_conn, {"kind": AWAY, "text": why}, ())
        goodbye = threading.Timer(1.0, _end, [sfm_conn.conn])
        goodbye.daemon = True
        goodbye.start()

    def _lose(self, peer: str) -> None:
        self._inbox.drop(peer, ENDED)
        self._outbox.drop(peer, ENDED)
        self._ears.left(peer)

    def _emit(self, peer: str, about: Mapping[str, Any], data: Sequence[memoryview]) -> None:
        """Hand a message to a peer's connection; if that has ended, so has what the message belongs to."""
        if (connection := self._current.get(peer)) is not None:
            try:
                _send(connection, about, data)
            except Exception as error:
                _log.info("%s: %s", peer, error)


def _send(connection: SfmConnection, about: Mapping[str, Any], data: Sequence[memoryview]) -> None:
    """Send a message as NVFlare's connections do, but copied once instead of three times."""
    headers = connection.headers_to_bytes(dict(about))
    n_bytes = PREFIX_LEN + len(headers) + sum(len(part) for part in data)
    start = bytearray(PREFIX_LEN)
    number = connection.next_sequence()
    Prefix(n_bytes, len(headers), Types.DATA, 0, 0, APP, 1, number).to_buffer(start, 0)
    connection.conn.send_frame(b"".join((start, headers, *data)))


def _end(connection: Any) -> None:
    """Close a connection; at the server NVFlare would wait for the other end to do so."""
    if context := connection.context:
        context.cancel()
    connection.close()


def _common_name(connection: Any) -> str:
    return str(connection.get_conn_properties().get(DriverParams.PEER_CN.value))


def _options() -> list[tuple[str, int]]:
    """What gRPC is asked for."""
    message = PIECE_BYTES + (1 << 17)  # what NVFlare puts before the bytes has less than 64 KiB
    return [
        ("grpc.max_send_message_length", message),
        ("grpc.max_receive_message_length", message),
        ("grpc.max_concurrent_streams", MOST_CONNECTIONS),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", 2 * KEEPALIVE_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 3),
        ("grpc.max_connection_idle_ms", 60_000),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.min_reconnect_backoff_ms", 10_000),
        ("grpc.so_reuseport", 0),
    ]


def _write_log(folder: Path) -> Path:
    """A file for what NVFlare says in this process."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    logger = logging.getLogger("nvflare")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    handler = RotatingFileHandler(folder / LOG, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return folder / LOG


def _require_free(host: str, port: int) -> None:
    """NVFlare would not say that nobody listens."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise PolysiteError(
                f"{host}:{port}: cannot listen there: {os.strerror(error.errno or 0)}; "
                + (
                    "is another server running?"
                    if error.errno == errno.EADDRINUSE
                    else "--listen takes an address of this machine"
                )
            ) from error
