"""The authority of a consortium: it signs the certificates of members, and keeps a list of what it signed.

Its folder has the private key, the certificate, what can never change (``consortium.json``), and the list
(``issued.json``). Whoever has the key can pass for any member.
"""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from polysite.config.base import Section
from polysite.config.consortium import Consortium
from polysite.errors import ConfigError
from polysite.kits.certificates import (
    USAGES,
    PublicKey,
    Role,
    fingerprint,
    read_certificate,
    read_key,
    read_text,
    require_authority,
    require_valid,
    subject_name,
    write_file,
    write_key,
)
from polysite.kits.primitives import ec, hashes, serialization, x509

KEY, CERTIFICATE, SETTLED, LIST = "authority.key", "authority.crt", "consortium.json", "issued.json"
COMMON_NAME = "Polysite authority"
"""With a space, which no member's name has."""
LONGEST_LIST = 1 << 28
"""Bytes; a certificate has a thousand."""
BACKDATED = timedelta(hours=1)
"""Clocks of members may be so much behind the authority's."""


class Issued(Section):
    """One certificate that was signed; nothing in it is secret."""

    role: Role
    name: str = Field(description="common name")
    keys: Literal["own", "made"] = Field(description="who made the private key: the member, or we")
    serial: str = Field(description="hexadecimal")
    begins: datetime
    ends: datetime
    public_key: str = Field(description="SHA-256, hexadecimal")
    certificate: str = Field(description="PEM")


class Authority:
    """An authority whose folder was read or made.

    Raises
    ------
    ConfigError
        If its files do not belong together, others can read the key, its time is over, or it is another consortium's.
    """

    def __init__(self, folder: Path, consortium: Consortium) -> None:
        require_same(folder, consortium)
        self.folder, self._consortium = folder, consortium
        self.certificate = read_certificate(folder / CERTIFICATE)
        require_authority(self.certificate, folder / CERTIFICATE)
        self._key = read_key(folder / KEY)
        if fingerprint(self._key.public_key()) != fingerprint(self.certificate.public_key()):
            raise ConfigError(
                f"{folder / KEY}: is not the key of {CERTIFICATE}; restore both from one backup"
            )
        remedy = "new members need a new authority: provision into another folder"
        require_valid(self.certificate, folder / CERTIFICATE, datetime.now(UTC), remedy)

    @property
    def ends(self) -> datetime:
        """When its own certificate ends."""
        return self.certificate.not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        """Of its public key."""
        return fingerprint(self.certificate.public_key())

    def sign(self, public_key: PublicKey, name: str, role: Role, *, days: float) -> x509.Certificate:
        """A certificate for a member, valid for some days from now, at most as long as the authority's own."""
        now = datetime.now(UTC).replace(microsecond=0)
        own = self.certificate
        subject = x509.Name(
            [_organisation(self._consortium), x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(own.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, own.not_valid_before_utc))
            .not_valid_after(min(now + timedelta(days=days), own.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([USAGES[role]]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if role == "server":
            builder = builder.add_extension(x509.SubjectAlternativeName([subject_name(name)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def record(self, issued: list[Issued]) -> None:
        """Add to the list; it is on the disk before this returns."""
        every = [record.model_dump(mode="json") for record in (*read_issued(self.folder), *issued)]
        temporary = self.folder / f".{LIST}.tmp"
        temporary.unlink(missing_ok=True)
        write_file(temporary, json.dumps(every, indent=1).encode() + b"\n", 0o600)
        temporary.replace(self.folder / LIST)


def issued_as(certificate: x509.Certificate, role: Role, name: str, keys: Literal["own", "made"]) -> Issued:
    """The list's line for a certificate."""
    return Issued(
        role=role,
        name=name,
        keys=keys,
        serial=f"{certificate.serial_number:x}",
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        public_key=fingerprint(certificate.public_key()),
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )


def make_authority(folder: Path, consortium: Consortium) -> None:
    """Make the folder of a new authority, whole or not at all."""
    key = ec.generate_private_key(ec.SECP256R1())
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    write_key(temporary / KEY, key)
    certificate = _root(key, consortium).public_bytes(serialization.Encoding.PEM)
    write_file(temporary / CERTIFICATE, certificate, 0o644)
    write_file(temporary / SETTLED, json.dumps(_settled(consortium), indent=1).encode() + b"\n", 0o644)
    write_file(temporary / LIST, b"[]\n", 0o600)
    temporary.rename(folder)


def read_issued(folder: Path) -> list[Issued]:
    """What an authority has signed, the newest last; nothing if there is no authority yet."""
    path = folder / LIST
    if not folder.exists():
        return []
    try:
        return TypeAdapter(list[Issued]).validate_json(read_text(path, LONGEST_LIST))
    except ValidationError as error:
        raise ConfigError(f"{path}: is damaged; restore it from a backup") from error


def require_same(folder: Path, consortium: Consortium) -> None:
    """Refuse an authority that was made for another consortium, or for another server."""
    path = folder / SETTLED
    try:
        before = json.loads(read_text(path))
        told = {key: before[key] for key in _settled(consortium)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: is damaged; restore it from a backup") from error
    if not (folder / KEY).exists() and (folder / "cert.json").exists():
        raise ConfigError(
            f"{folder}: was made by an older version of Polysite; choose another folder for new kits"
        )
    for key, value in _settled(consortium).items():
        if told[key] != value:
            raise ConfigError(
                f"{key}: {value!r}, but the kits in {os.path.normpath(folder.parent)} were made for {told[key]!r}; "
                "choose another folder for new kits"
            )


def _settled(consortium: Consortium) -> dict[str, str | int]:
    """What cannot change once kits are out."""
    return {"name": consortium.name, "server": consortium.server, "port": consortium.port}


def _organisation(consortium: Consortium) -> x509.NameAttribute[str]:
    return x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, consortium.name)


def _root(key: ec.EllipticCurvePrivateKey, consortium: Consortium) -> x509.Certificate:
    """A certificate that an authority signs for itself; it may sign members, but no further authorities."""
    now = datetime.now(UTC).replace(microsecond=0)
    name = x509.Name([_organisation(consortium), x509.NameAttribute(x509.NameOID.COMMON_NAME, COMMON_NAME)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=consortium.valid_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
