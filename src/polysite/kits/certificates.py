"""Certificates and private keys as files: read with one clear error, and a key only where nobody else can read it."""

import ipaddress
import os
import stat
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from polysite.errors import ConfigError
from polysite.kits.primitives import (
    InvalidSignature,
    UnsupportedAlgorithm,
    ec,
    rsa,
    serialization,
    x509,
)

LARGEST_BYTES = 65_536
"""Of a certificate, key or request; a larger file is none."""
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Role = Literal["server", "hospital"]
USAGES = {
    "server": x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,
    "hospital": x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,
}
"""What a certificate is for: a hospital's cannot pass as the server's, nor the other way round."""
E = TypeVar("E", bound=x509.ExtensionType)


def read_certificate(path: Path) -> x509.Certificate:
    """The one certificate of a file.

    Raises
    ------
    ConfigError
        If there is none, or more than one: whoever reads the file after us would trust all of them.
    """
    return certificate_of(read_small(path), str(path))


def certificate_of(content: bytes, where: str) -> x509.Certificate:
    """The one certificate of a PEM text; see `read_certificate`."""
    try:
        if content.count(b"-----BEGIN") != 1:
            raise ValueError
        return x509.load_pem_x509_certificate(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where}: is not one certificate in PEM form; ask for this file again") from error


def read_key(path: Path) -> PrivateKey:
    """A private key that belongs to its owner alone.

    Raises
    ------
    ConfigError
        If others can read the file, or it holds no key that can be used.
    """
    content = read_small(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"{path}: others can read this key (mode {mode:o}); run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise ConfigError(
            f"{path}: needs a pass phrase, which nobody can type when a run goes on by itself; save the key without one"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: is not a private key in PEM form") from error
    if not isinstance(key, PrivateKey):
        raise ConfigError(f"{path}: is a key of a kind that TLS does not take here; use EC or RSA")
    return key


def read_small(path: Path, most: int = LARGEST_BYTES) -> bytes:
    """The bytes of a small file."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: is missing") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise ConfigError(f"{path}: has more than {most} bytes, so it is not what its name says")
    return content


def read_text(path: Path, most: int = LARGEST_BYTES) -> str:
    """The text of a small file."""
    try:
        return read_small(path, most).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error


def require_issued(certificate: x509.Certificate, authority: x509.Certificate, path: Path) -> None:
    """Refuse a certificate that this authority did not sign."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path}: was not signed by the authority of authority.crt; both have to come from one kit"
        ) from error


def require_authority(certificate: x509.Certificate, path: Path) -> None:
    """Refuse a certificate that is not that of an authority, signed by itself."""
    basic = extension(certificate, x509.BasicConstraints, path)
    usage = extension(certificate, x509.KeyUsage, path)
    if basic is None or not basic.ca or usage is None or not usage.key_cert_sign:
        raise ConfigError(f"{path}: is not the certificate of an authority; ask for this file again")
    require_issued(certificate, certificate, path)


def require_valid(certificate: x509.Certificate, path: Path, now: datetime, remedy: str) -> None:
    """Refuse a certificate whose time is over or has not come."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise ConfigError(f"{path}: expired on {ends:%Y-%m-%d}; {remedy}")
    if now < begins:
        raise ConfigError(
            f"{path}: is valid from {begins:%Y-%m-%d %H:%M} UTC, but the clock of this machine says "
            f"{now:%Y-%m-%d %H:%M} UTC; set the clock"
        )


def common_name(name: x509.Name) -> str | None:
    """The common name of a subject; None unless there is exactly one, in text."""
    found = [attribute.value for attribute in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def extension(certificate: x509.Certificate, kind: type[E], path: Path) -> E | None:
    """An extension of a certificate; None if it has none of the kind."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ConfigError(f"{path}: is damaged: {error}; ask for this file again") from error


def subject_name(host: str) -> x509.GeneralName:
    """A host as certificates name it: by its IP address, or else by its DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a private key, for its owner alone from the first byte on."""
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_file(path, content, 0o600)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a new file; it is on the disk before this returns."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fingerprint(public_key: Any) -> str:
    """What a public key is known by: SHA-256 of its DER form (SubjectPublicKeyInfo), 64 hexadecimal digits.

    The same as of ``openssl pkey -pubin -outform DER | sha256sum``.
    """
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256(public_key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def spoken(digits: str) -> str:
    """A fingerprint in groups of four, to be read out on the telephone.

    >>> spoken("3f2a91bc")
    '3f2a 91bc'
    """
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
