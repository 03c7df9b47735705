"""CONSORTIUM.yaml: who can take part in runs across hospitals, and where their server is."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from polysite.config.base import Name, Section, at

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
SERVER = "server"
"""What the server's end of a connection is called, so no hospital can be."""
LONGEST_DAYS = 36_500


def _host(text: str) -> str:
    """A DNS name of at most 64 characters (a certificate's common name has no more), or an IPv4 address."""
    if len(text) > 64 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", text):
        raise ValueError(f"{text!r} is no host name, for example fl.example.org, and no IPv4 address")
    if text.rpartition(".")[2].isdigit():
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise ValueError(f"{text!r} is no IPv4 address, and no host name ends in a number") from None
    return text


Host = Annotated[str, AfterValidator(_host)]


def require_member(name: str, server: str) -> None:
    """Refuse a hospital's name that could be taken for the server's, however it is written.

    Raises
    ------
    ValueError
        With the reason.
    """
    if name.lower() in (SERVER, server.lower()):
        raise ValueError(f"{name!r} is what the server is called; choose another name for the hospital")


class Consortium(Section):
    """Hospitals and the server that they meet at."""

    name: Name = Field(description="the consortium's name, in every certificate")
    server: Host = Field(
        description="host name or IPv4 address by which hospitals reach the server; its certificate is for it"
    )
    port: int = Field(default=8002, ge=1, le=65_535, description="the one port that hospitals reach")
    hospitals: tuple[Name, ...] = Field(
        min_length=1,
        description="the sites' names in runs; one added later gets a kit, the others stay as they are",
    )
    own_keys: tuple[Name, ...] = Field(
        default=(),
        description="hospitals for which no key is ever made here: each gets its kit when its request "
        "(`polysite request`) is there",
    )
    valid_days: int = Field(
        default=3650, ge=1, le=LONGEST_DAYS, description="how long the authority's own certificate is valid"
    )
    member_days: int = Field(
        default=365,
        ge=1,
        le=LONGEST_DAYS,
        description="how long a certificate of the server or a hospital is valid, at most until the authority's ends",
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Consortium":
        seen: dict[str, str] = {}
        for hospital in self.hospitals:
            try:
                require_member(hospital, self.server)
            except ValueError as error:
                raise at(["hospitals"], str(error)) from error
            if (other := seen.setdefault(hospital.lower(), hospital)) != hospital:
                raise at(["hospitals"], f"{other!r} and {hospital!r} differ in capital letters alone")
        if len(seen) < len(self.hospitals):
            raise at(["hospitals"], f"a hospital is listed twice: {', '.join(self.hospitals)}")
        for hospital in self.own_keys:
            if hospital not in self.hospitals:
                raise at(["own_keys"], f"{hospital!r} is not among `hospitals` ({', '.join(self.hospitals)})")
        return self
