"""Clients that are not in order: how a TLS server answers them, byte by byte."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from polysite.kits.authority import CERTIFICATE, KEY
from polysite.kits.certificates import read_certificate, read_key
from polysite.kits.primitives import hashes, serialization, x509


def expired(kit: Path, authority: Path, out: Path) -> Path:
    """A copy of a kit's certificate that ended yesterday, signed by the same authority, with the kit's key."""
    own, root = read_certificate(kit / "own.crt"), read_certificate(authority / CERTIFICATE)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(root.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in own.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(read_key(authority / KEY), hashes.SHA256())
    out.mkdir()
    (out / "own.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (out / "own.key").write_bytes((kit / "own.key").read_bytes())
    return out


def answer_to(port: int, kit: Path | None, said: bytes = b"", *, version: int = 3) -> str:
    """What becomes of a TLS connection: the alert, ``closed`` or ``open``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_3 if version == 3 else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if kit is not None:
        context.load_cert_chain(kit / "own.crt", kit / "own.key")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(said)
            while secure.recv(4096):
                pass
    except ssl.SSLError as error:
        return str(error.reason)
    except ConnectionError:
        pass
    except TimeoutError:
        return "open"
    return "closed"


def opened(port: int, said: bytes = b"") -> socket.socket:
    """A plain connection on which something was said that is no TLS, or nothing."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    plain.sendall(said)
    return plain
