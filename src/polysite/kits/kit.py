"""A start-up kit: by what the server or a hospital proves who it is, and where the server is.

A kit is checked whole before anything is contacted, so that a wrong file is told of at once and by its name, not
as a connection that does not come about.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from polysite.config.base import Name, Section
from polysite.config.consortium import Host, require_member
from polysite.errors import ConfigError
from polysite.kits.certificates import (
    USAGES,
    Role,
    common_name,
    extension,
    fingerprint,
    read_certificate,
    read_key,
    read_text,
    require_authority,
    require_issued,
    require_valid,
    subject_name,
)
from polysite.kits.primitives import x509

FORMAT = 2
ABOUT, AUTHORITY, CERTIFICATE, KEY = "kit.json", "authority.crt", "own.crt", "own.key"
"""The files of a kit."""
WARN_DAYS = 30
"""Before the end of a certificate's time."""


@dataclass(frozen=True)
class Kit:
    """A kit whose files belong together.

    Attributes
    ----------
    folder : Path
        Absolute.
    name : str
        The common name of its certificate: a hospital's site name, the server's host name.
    server, port : str, int
        Where hospitals reach the server.
    """

    folder: Path
    role: Role
    name: str
    consortium: str
    server: str
    port: int

    @property
    def authority(self) -> Path:
        """Certificate of the authority, which signed those of all members."""
        return self.folder / AUTHORITY

    @property
    def certificate(self) -> Path:
        """This member's own."""
        return self.folder / CERTIFICATE

    @property
    def key(self) -> Path:
        """Private key of the certificate; not encrypted, its file is its owner's alone."""
        return self.folder / KEY

    def require_site(self, site: str) -> None:
        """Refuse a kit of another hospital."""
        if self.name != site:
            raise ConfigError(f"{self.folder}: is the kit of {self.name!r}; this is {site!r}")


class About(Section):
    """``kit.json``."""

    format: Literal[2] = Field(description="of the kit")
    role: Role
    name: str
    consortium: Name
    server: Host
    port: int = Field(ge=1, le=65_535)


def read_kit(folder: Path, role: Role, tell: Callable[[str], None] = lambda text: None) -> Kit:
    """A kit that `polysite provision` made.

    Parameters
    ----------
    role : {"server", "hospital"}
        Whose kit is needed.
    tell : callable
        Told of a certificate that ends soon.

    Raises
    ------
    ConfigError
        If a file is missing or damaged, belongs to another kit, is out of date, or can be read by others.
    """
    kit = _about(folder.absolute(), role)
    authority, own = read_certificate(kit.authority), read_certificate(kit.certificate)
    now, again = datetime.now(UTC), f"ask for a renewed one (`polysite provision … --renew {_called(kit)}`)"
    require_authority(authority, kit.authority)
    require_valid(authority, kit.authority, now, "ask for a new kit: the consortium needs a new authority")
    require_issued(own, authority, kit.certificate)
    _require_own(own, kit)
    require_valid(own, kit.certificate, now, again)
    if not kit.key.exists():
        raise ConfigError(
            f"{kit.key}: is missing; if this hospital made its key with `polysite request`, put that file here"
        )
    if fingerprint(read_key(kit.key).public_key()) != fingerprint(own.public_key()):
        raise ConfigError(f"{kit.key}: is not the key of {CERTIFICATE}; both have to come from one kit")
    days = (own.not_valid_after_utc - now).days
    if days < WARN_DAYS:
        tell(f"{kit.certificate}: ends on {own.not_valid_after_utc:%Y-%m-%d}, in {days} days; {again}")
    return kit


def _called(kit: Kit) -> str:
    """What `polysite provision --renew` calls the member."""
    return "server" if kit.role == "server" else kit.name


def _about(folder: Path, role: Role) -> Kit:
    path = folder / ABOUT
    if not path.exists():
        raise ConfigError(f"{path}: is missing; `polysite provision` makes kits")
    try:
        about = About(**json.loads(read_text(path)))
        if about.role == "hospital":
            require_member(TypeAdapter(Name).validate_python(about.name), about.server)
        elif about.name != about.server:
            raise ValueError(f"{about.name!r} is not the server, {about.server!r}")
    except (ValueError, TypeError, RecursionError, ValidationError) as error:
        raise ConfigError(
            f"{path}: is no kit of this version of Polysite; ask for one that its `polysite provision` made"
        ) from error
    if about.role != role:
        raise ConfigError(f"{folder}: is the kit of a {about.role}; a {role}'s is needed here")
    return Kit(folder, about.role, about.name, about.consortium, about.server, about.port)


def _require_own(own: x509.Certificate, kit: Kit) -> None:
    """Refuse a certificate for another name or another use."""
    path = kit.certificate
    if (name := common_name(own.subject)) != kit.name:
        raise ConfigError(
            f"{path}: is that of {name!r}, but {ABOUT} is of {kit.name!r}; put the right one here"
        )
    usages = extension(own, x509.ExtendedKeyUsage, path)
    if usages is None or list(usages) != [USAGES[kit.role]]:
        raise ConfigError(f"{path}: is not made to be used by a {kit.role}; put the right one here")
    basic = extension(own, x509.BasicConstraints, path)
    if basic is not None and basic.ca:
        raise ConfigError(f"{path}: is that of an authority, not of a member; put the right one here")
    if kit.role == "server":
        names = extension(own, x509.SubjectAlternativeName, path)
        if names is None or list(names) != [subject_name(kit.server)]:
            raise ConfigError(f"{path}: is not for the host {kit.server!r}; put the right one here")
