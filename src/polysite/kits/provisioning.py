"""Kits for a consortium: one for the server and one for each hospital, made once and renewed when asked for.

Nothing is made before all that was asked for is checked. A kit appears whole or not at all, and is in the
authority's list before it is there. A kit without its key is for a hospital that made its own.
"""

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from polysite.config.consortium import Consortium
from polysite.errors import ConfigError
from polysite.kits import kit as kits
from polysite.kits.authority import (
    Authority,
    Issued,
    issued_as,
    make_authority,
    read_issued,
    require_same,
)
from polysite.kits.certificates import (
    PublicKey,
    certificate_of,
    fingerprint,
    require_issued,
    spoken,
    write_file,
    write_key,
)
from polysite.kits.orders import Member, Order, Tell, members_of, orders_of
from polysite.kits.primitives import ec, serialization
from polysite.kits.requests import read_requests
from polysite.lock import in_turn

AUTHORITY = "authority"
_OURS = {".lock", f".{AUTHORITY}.new"}
"""What a process that was ended early may have left where no kit is yet."""


def provision(
    consortium: Consortium,
    out: Path,
    *,
    requests: Sequence[Path] = (),
    renew: Collection[str] = (),
    tell: Tell = lambda text: None,
) -> list[tuple[Member, Issued]]:
    """Make the kits that were never made: ``server``, and ``hospitals/NAME`` for each; and those to be renewed.

    Parameters
    ----------
    requests : sequence of Path
        Signing requests of hospitals that made their own keys.
    renew : collection of str
        Hospitals, or ``server``, whose certificate is made anew: for the same key if that is the hospital's own, and
        for a new key otherwise.
    tell : callable
        Told of requests that are missing and certificates that end soon, and of the authority's fingerprint.

    Raises
    ------
    ConfigError
        If a request or name is wrong, or the folder belongs to another consortium; nothing is made then.
    """
    authority = out / AUTHORITY
    there = {entry.name for entry in out.iterdir()} if out.exists() else set()
    if AUTHORITY in there:
        require_same(authority, consortium)
    elif there - _OURS:
        raise ConfigError(f"{out}: is there already and holds no kits; choose another folder")
    members, asked = members_of(consortium, out), read_requests(requests)
    orders_of(consortium, members, read_issued(authority), asked, renew, lambda text: None)
    out.mkdir(parents=True, exist_ok=True)
    with in_turn(out):
        _tidy(out)
        # once more, because another process may have made kits meanwhile
        orders = orders_of(consortium, members, read_issued(authority), asked, renew, tell)
        if not authority.exists():
            make_authority(authority, consortium)
        signer = Authority(authority, consortium)
        tell(f"authority: valid until {signer.ends:%Y-%m-%d}; fingerprint {spoken(signer.fingerprint)}")
        return _made(signer, consortium, orders, out)


def _made(
    authority: Authority, consortium: Consortium, orders: Sequence[Order], out: Path
) -> list[tuple[Member, Issued]]:
    try:
        made = [(order.member, _prepare(authority, consortium, order)) for order in orders]
        if made:
            authority.record([issued for _, issued in made])
        for member, _ in made:
            if member.folder.exists():
                member.folder.rename(_aside(member.folder, "old"))
            _aside(member.folder, "new").rename(member.folder)
    finally:
        _tidy(out)
    return made


def _prepare(authority: Authority, consortium: Consortium, order: Order) -> Issued:
    """Lay out one kit beside its place."""
    member = order.member
    folder = _aside(member.folder, "new")
    folder.mkdir(parents=True, mode=0o700)
    public_key: PublicKey
    if order.request:
        public_key = order.request.public_key
    elif order.renewed:
        public_key = _same_key(authority, order.renewed)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write_key(folder / kits.KEY, key)
        public_key = key.public_key()
    own = authority.sign(public_key, member.name, member.role, days=consortium.member_days)
    about = {
        "format": kits.FORMAT,
        "role": member.role,
        "name": member.name,
        "consortium": consortium.name,
        "server": consortium.server,
        "port": consortium.port,
    }
    write_file(folder / kits.ABOUT, json.dumps(about, indent=1).encode() + b"\n", 0o644)
    for name, certificate in ((kits.AUTHORITY, authority.certificate), (kits.CERTIFICATE, own)):
        write_file(folder / name, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return issued_as(own, member.role, member.name, "own" if order.request or order.renewed else "made")


def _same_key(authority: Authority, record: Issued) -> PublicKey:
    """The public key of a certificate that the authority signed before."""
    where = authority.folder / "issued.json"
    certificate = certificate_of(record.certificate.encode(), f"{where}: certificate {record.serial}")
    require_issued(certificate, authority.certificate, where)
    key = certificate.public_key()
    if not isinstance(key, PublicKey) or fingerprint(key) != record.public_key:
        raise ConfigError(f"{where}: is damaged; restore it from a backup")
    return key


def _aside(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}.{ending}")


def _tidy(out: Path) -> None:
    """Remove what an ended process left beside the kits; a kit that it had moved away comes back."""
    for parent in (out, out / "hospitals"):
        for old in parent.glob(".*.old"):
            home = parent / old.name[1 : -len(".old")]
            if home.exists():
                shutil.rmtree(old)
            else:
                old.rename(home)
        for new in parent.glob(".*.new"):
            shutil.rmtree(new)
