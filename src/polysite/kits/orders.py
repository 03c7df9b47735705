"""Which kits are to be made: of the members that have none, and of those whose certificate is renewed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from polysite.config.consortium import SERVER, Consortium
from polysite.errors import ConfigError
from polysite.kits.authority import Issued
from polysite.kits.certificates import Role, fingerprint
from polysite.kits.kit import WARN_DAYS
from polysite.kits.requests import Request

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Member:
    """The server or a hospital.

    Attributes
    ----------
    word : str
        What it is called in commands: ``server``, or the hospital's name.
    name : str
        Common name of its certificate.
    folder : Path
        Of its kit.
    """

    word: str
    role: Role
    name: str
    folder: Path


@dataclass(frozen=True)
class Order:
    """A kit to be made; without a request, or a certificate to be renewed for the same key, a key is made for it."""

    member: Member
    request: Request | None = None
    renewed: Issued | None = None


def members_of(consortium: Consortium, out: Path) -> dict[str, Member]:
    """The server and all hospitals, by what commands call them."""
    hospitals = out / "hospitals"
    return {
        SERVER: Member(SERVER, "server", consortium.server, out / "server"),
        **{name: Member(name, "hospital", name, hospitals / name) for name in consortium.hospitals},
    }


def orders_of(
    consortium: Consortium,
    members: Mapping[str, Member],
    issued: Sequence[Issued],
    asked: Mapping[str, Request],
    renew: Collection[str],
    tell: Tell,
) -> list[Order]:
    """What is to be made, member by member.

    Raises
    ------
    ConfigError
        If a request or a name does not fit the consortium or what was made before.
    """
    for word in renew:
        if word not in members:
            raise ConfigError(f"--renew {word}: choose one of: {', '.join(members)}")
    for name, request in asked.items():
        if name not in consortium.hospitals:
            raise ConfigError(
                f"{request.path}: is of {name!r}, which is not among `hospitals` ({', '.join(consortium.hospitals)})"
            )
        for record in issued:
            if record.public_key == fingerprint(request.public_key) and record.name != name:
                raise ConfigError(f"{request.path}: has the key of {record.name!r}; {name} needs its own")
    latest = {(record.role, record.name): record for record in issued}
    orders = []
    for member in members.values():
        order = _order(
            member,
            latest.get((member.role, member.name)),
            asked.get(member.word),
            own=member.word in consortium.own_keys,
            renew=member.word in renew,
            tell=tell,
        )
        orders += [order] if order else []
    return orders


def _order(
    member: Member, record: Issued | None, request: Request | None, *, own: bool, renew: bool, tell: Tell
) -> Order | None:
    """What is to be made for one member; None if it has all, or its request is still missing."""
    word = member.word
    if record is None and renew:
        raise ConfigError(f"--renew {word}: it has no kit yet; leave this out to make its first one")
    if record is not None and not renew:
        if request:
            raise ConfigError(
                f"{request.path}: {word} has a kit since {record.begins:%Y-%m-%d}; add --renew {word} to replace it"
            )
        _remind(member, record, tell)
        return None
    if record is None and member.folder.exists():
        raise ConfigError(f"{member.folder}: is there already, but not in the authority's list; move it away")
    if request:
        return Order(member, request)
    if record is not None and record.keys == "own":
        return Order(member, renewed=record)
    if own and renew:
        raise ConfigError(
            f"--renew {word}: it is among `own_keys`; add its --request, made by `polysite request`"
        )
    if own:
        tell(
            f"{word}: makes its own key; no kit until its --request is here (`polysite request {word} FOLDER` there)"
        )
        return None
    return Order(member)


def _remind(member: Member, record: Issued, tell: Tell) -> None:
    days = (record.ends - datetime.now(UTC)).days
    if days < WARN_DAYS:
        when = (
            f"ends on {record.ends:%Y-%m-%d}, in {days} days"
            if days >= 0
            else f"ended on {record.ends:%Y-%m-%d}"
        )
        tell(f"{member.word}: its certificate {when}; --renew {member.word} makes a new one")
    elif not member.folder.exists():
        tell(
            f"{member.word}: its kit was made on {record.begins:%Y-%m-%d} and is not here any more; if it is lost: "
            f"--renew {member.word}"
        )
