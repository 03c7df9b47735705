"""One end of NVFlare's message layer: a cell with mutual TLS that takes bytes from its peers and nothing else.

Of NVFlare only its cells are used (`nvflare.fuel.f3`): connections, heartbeats, and streams with acknowledgements.
A cell checks that the common name in a peer's certificate is the name by which it speaks. What cells can do beyond
bringing bytes (objects that are built from what arrives, passing on for others, connections to addresses that a peer
names) is refused here before it is looked at.
"""

import json
import logging
import os
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.cellnet.defs import (
    CellChannel,
    CellChannelTopic,
    Encoding,
    MessageHeaderKey,
    MessagePropKey,
)
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.f3.comm_config import CommConfigurator
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from nvflare.fuel.f3.drivers.net_utils import MAX_FRAME_SIZE
from nvflare.fuel.f3.endpoint import Endpoint, EndpointMonitor, EndpointState
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.stream_cell import StreamCell
from nvflare.fuel.f3.streaming.stream_const import STREAM_CHANNEL, StreamHeaderKey
from nvflare.fuel.f3.streaming.stream_types import Stream, StreamError, StreamFuture
from nvflare.fuel.utils.config_service import ConfigService

from polysite.errors import PolysiteError
from polysite.kits.kit import Kit

SERVER = "server"
"""The server's name among cells."""
CHANNEL = "polysite"
LOG = "nvflare.txt"
"""What NVFlare says, in the cell's folder."""
CHUNK_BYTES = 1 << 20
WINDOW_BYTES = 1 << 24
"""The most that is on its way to one peer without its word that it has arrived."""
KEEPALIVE_MS = 15_000
"""A connection over which nothing has come is asked so often whether it still stands."""
RETRY_S = 60
"""How long a part of a stream is sent again and again before the stream is given up."""


class Cell:
    """An end of the message layer.

    Parameters
    ----------
    kit : Kit
        Who this end is, and where the server is.
    folder : Path
        For NVFlare's settings and what it says.
    peers : collection of str
        From whom anything is taken.
    listen : str, optional
        The address at which a server listens.
    """

    def __init__(self, kit: Kit, folder: Path, peers: Collection[str], *, listen: str = "0.0.0.0") -> None:
        self._peers = frozenset(peers)
        self._is_server = kit.role == "server"
        self.name = SERVER if self._is_server else kit.name
        self._settle(folder)
        side = "server" if self._is_server else "client"
        credentials = {
            DriverParams.CA_CERT.value: str(kit.authority),
            f"{side}_cert": str(kit.certificate),
            f"{side}_key": str(kit.key),
            DriverParams.CONNECTION_SECURITY.value: "mtls",
        }
        host = listen if self._is_server else kit.server
        if self._is_server:
            _require_free(host, kit.port)
        self._core = CoreCell(
            self.name,
            f"grpc://{host}:{kit.port}",
            secure=True,
            credentials=credentials,
            auth_identity_map=None if self._is_server else {SERVER: kit.server},
        )
        self._core.add_incoming_filter("*", "*", self._guard)
        self._streams = StreamCell(self._core)

    def start(self, changed: Callable[[str, bool], None]) -> None:
        """Connect, or listen; ``changed`` is told of a peer and whether it is connected."""
        self._core.communicator.register_monitor(_Monitor(self._peers, changed))
        self._core.start()

    # --- bytes ----------------------------------------------------------------------------------------------

    def send(self, peer: str, data: bytes, done: Callable[[str | None], None]) -> None:
        """Begin to send; ``done`` hears None when all has arrived, or what went wrong."""
        future = self._streams.send_blob(CHANNEL, "payload", peer, Message({}, data), reliable=True)
        future.add_done_callback(lambda: done(None if future.error is None else str(future.error)))

    def receive(
        self,
        limit: Callable[[str], int],
        room: Callable[[str], BinaryIO],
        arrived: Callable[[str, BinaryIO | None, str], None],
    ) -> None:
        """From now on take what is sent.

        Parameters
        ----------
        limit : callable
            Peer -> the most bytes that it may send.
        room : callable
            Peer -> an open file for what comes.
        arrived : callable
            Told of the peer, the file (None if it did not arrive whole) and what went wrong.
        """

        def take(future: StreamFuture, stream: Stream, resume: bool) -> int:
            peer, most = stream.get_headers()[MessageHeaderKey.ORIGIN], 0
            file: BinaryIO | None = None
            try:
                most = limit(peer)
                if stream.get_size() > most:
                    raise StreamError(f"sends {stream.get_size()} bytes where at most {most} are due")
                file = room(peer)
                n = 0
                while chunk := stream.read(CHUNK_BYTES):
                    n += len(chunk)
                    if n > most:
                        raise StreamError(f"sends more than the {most} bytes that are due")
                    file.write(chunk)
            except Exception as error:
                if file is not None:
                    file.close()
                arrived(peer, None, str(error))
                raise
            arrived(peer, file, "")
            return 0

        self._streams.register_stream_cb(CHANNEL, "payload", take)

    def say(self, peer: str, topic: str, word: str) -> None:
        """Send a short word; whether it arrives is not known."""
        self._core.fire_and_forget(CHANNEL, topic, [peer], Message({}, word.encode()), optional=True)

    def listen_for(self, topic: str, heard: Callable[[str, str], None]) -> None:
        """Be told of short words: the peer and the word."""

        def take(message: Message) -> Message:
            word = bytes(message.payload or b"")[:1000].decode(errors="replace")
            heard(message.get_header(MessageHeaderKey.ORIGIN), word)
            return make_reply("ok")

        self._core.register_request_cb(CHANNEL, topic, take)

    def drop(self, peer: str, *, keep: int = 0) -> None:
        """Close a peer's connections, but the ``keep`` oldest."""
        for connection in (self._core.communicator.conn_manager.get_connections(peer) or [])[keep:]:
            connection.conn.close()

    def close(self) -> None:
        """Say goodbye and end all connections."""
        self._core.stop()
        CoreCell.ALL_CELLS.pop(self.name, None)

    # --- what is refused ------------------------------------------------------------------------------------

    def _guard(self, message: Message) -> Message | None:
        """A reply, which ends it, to everything but bytes from a peer to this cell."""
        endpoint = message.get_prop(MessagePropKey.ENDPOINT)
        origin = message.get_header(MessageHeaderKey.ORIGIN)
        channel, topic = (
            message.get_header(key) for key in (MessageHeaderKey.CHANNEL, MessageHeaderKey.TOPIC)
        )
        plain = (Encoding.BYTES, Encoding.NONE, None)
        fine = (
            origin in self._peers
            and endpoint is not None
            and endpoint.name == origin
            and message.get_header(MessageHeaderKey.DESTINATION) == self.name
            and (
                channel in (CHANNEL, STREAM_CHANNEL)
                or (channel, topic) == (CellChannel.CELLNET, CellChannelTopic.Bye)
            )
            and message.get_header(MessageHeaderKey.PAYLOAD_ENCODING) in plain
            and message.get_header(StreamHeaderKey.PAYLOAD_ENCODING) in plain
        )
        message.headers.pop(MessageHeaderKey.CONN_URL, None)
        if fine:
            return None
        logging.getLogger("nvflare.polysite").warning("refused a message of %.60r for %.60r", origin, channel)
        return make_reply("invalid_request")

    @staticmethod
    def _settle(folder: Path) -> None:
        """NVFlare's settings, and a file for what it says; both are a process's, not a cell's."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "comm_config.json").write_text(json.dumps(_SETTINGS, indent=1), encoding="utf-8")
        ConfigService.reset()
        CommConfigurator.reset()
        ConfigService.initialize({}, [str(folder)])
        logger = logging.getLogger("nvflare")
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
            handler.close()
        handler = logging.FileHandler(folder / LOG, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


_SETTINGS: dict[str, Any] = {
    "allow_adhoc_conns": False,
    "streaming_chunk_size": CHUNK_BYTES,
    "streaming_window_size": WINDOW_BYTES,
    "streaming_ack_interval": WINDOW_BYTES // 4,
    "streaming_retry_timeout": RETRY_S,
    "streaming_read_timeout": 2 * RETRY_S,
    "streaming_ack_progress_timeout": RETRY_S,
    "grpc": {
        "max_workers": 1000,
        "options": [
            ["grpc.max_send_message_length", MAX_FRAME_SIZE],
            ["grpc.max_receive_message_length", MAX_FRAME_SIZE],
            ["grpc.keepalive_time_ms", KEEPALIVE_MS],
            ["grpc.keepalive_timeout_ms", KEEPALIVE_MS],
            ["grpc.keepalive_permit_without_calls", 1],
            ["grpc.http2.max_pings_without_data", 0],
            ["grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 3],
            ["grpc.so_reuseport", 0],
        ],
    },
}


class _Monitor(EndpointMonitor):
    """Tells of peers that come and go."""

    def __init__(self, peers: Collection[str], changed: Callable[[str, bool], None]) -> None:
        self._peers, self._changed = peers, changed

    def state_change(self, endpoint: Endpoint) -> None:
        if endpoint.name in self._peers:
            self._changed(endpoint.name, endpoint.state == EndpointState.READY)


def _require_free(host: str, port: int) -> None:
    """NVFlare would not say that nobody listens."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise PolysiteError(
                f"{host}:{port}: cannot listen there: {os.strerror(error.errno or 0)}; is another server running?"
            ) from error
