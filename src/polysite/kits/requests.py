"""A hospital's signing request: made where its key stays, read where certificates are made."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from polysite.config.base import Name
from polysite.config.consortium import SERVER
from polysite.errors import ConfigError
from polysite.kits.certificates import (
    PublicKey,
    common_name,
    fingerprint,
    read_small,
    write_file,
    write_key,
)
from polysite.kits.kit import KEY
from polysite.kits.primitives import UnsupportedAlgorithm, ec, hashes, rsa, serialization, x509

REQUEST = "request.csr"
CURVES = ("secp256r1", "secp384r1")
RSA_BITS = (2048, 4096)
"""Least and most."""


@dataclass(frozen=True)
class Request:
    """What a hospital asks to be signed; anything else that its file asks for is ignored."""

    path: Path
    name: str
    public_key: PublicKey


def make_request(name: str, out: Path) -> str:
    """Make a private key and a request for it in a new folder; gives the fingerprint of the public key.

    Raises
    ------
    ConfigError
        If the name cannot be a hospital's, or the folder is there already.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise ConfigError(
            f"NAME {name!r}: use 1 to 64 letters, digits, - and _, a letter or digit first"
        ) from error
    if name.lower() == SERVER:
        raise ConfigError(f"NAME {name!r}: is what the server is called; a request is a hospital's")
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another folder, so that no key is lost")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    temporary = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True, mode=0o700)
        write_key(temporary / KEY, key)
        write_file(temporary / REQUEST, request.public_bytes(serialization.Encoding.PEM), 0o644)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return fingerprint(key.public_key())


def read_requests(paths: Sequence[Path]) -> dict[str, Request]:
    """Requests by the hospital's name.

    Raises
    ------
    ConfigError
        If one is damaged, its key is too weak, or two are of the same hospital or key.
    """
    found: dict[str, Request] = {}
    keys: dict[str, Path] = {}
    for path in paths:
        request = _read(path)
        if (other := keys.setdefault(fingerprint(request.public_key), path)) is not path:
            raise ConfigError(f"{path}: has the same key as {other}; give each request once")
        if (first := found.setdefault(request.name, request)) is not request:
            raise ConfigError(f"{path}: is of {request.name!r}, as {first.path} is; give one of them")
    return found


def _read(path: Path) -> Request:
    content = read_small(path)
    try:
        request = x509.load_pem_x509_csr(content)
        signed, name, key = request.is_signature_valid, common_name(request.subject), request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: is no signing request; `polysite request` makes one") from error
    if not signed:
        raise ConfigError(
            f"{path}: its signature does not fit its key: the file was changed; ask for it again"
        )
    if name is None:
        raise ConfigError(f"{path}: has no common name, which must be the hospital's in `hospitals`")
    return Request(path, name, _usable(key, path))


def _usable(key: object, path: Path) -> PublicKey:
    """The key, if it is of a kind and size that both ends of TLS take."""
    least, most = RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and least <= key.key_size <= most:
        return key
    told = getattr(getattr(key, "curve", None), "name", None) or getattr(key, "key_size", None)
    raise ConfigError(
        f"{path}: its key is of another kind or size ({told or type(key).__name__}); make an EC key "
        f"({' or '.join(CURVES)}) or an RSA key of {least} to {most} bits"
    )
