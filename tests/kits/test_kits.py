"""A kit is refused by name for every way in which its files can be wrong, before anything is contacted."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from kit_files import consortium, kits
from polysite.errors import ConfigError
from polysite.kits import kit as module
from polysite.kits.authority import Authority
from polysite.kits.certificates import Role, read_certificate, read_key
from polysite.kits.kit import Kit, read_kit


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return kits(tmp_path / "kits")


def again(out: Path, kit: str, name: str, role: Role, days: float) -> None:
    """Sign the key of a kit anew."""
    key = read_key(out / kit / "own.key")
    made = Authority(out / "authority", consortium()).sign(key.public_key(), name, role, days=days)
    (out / kit / "own.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_a_kit_says_whose_it_is_and_where_its_files_are(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    north = read_kit(Path("kits/hospitals/north"), "hospital")
    folder = out / "hospitals" / "north"
    assert north == Kit(folder, "hospital", "north", "trial", "fl.example.org", 8002)
    assert (north.authority, north.certificate, north.key) == tuple(
        folder / name for name in ("authority.crt", "own.crt", "own.key")
    )
    server = read_kit(Path("kits/server"), "server")
    assert (server.role, server.name, server.server) == ("server", "fl.example.org", "fl.example.org")


def test_an_address_may_be_a_number(tmp_path: Path) -> None:
    assert read_kit(kits(tmp_path, server="192.0.2.7") / "server", "server").name == "192.0.2.7"


@pytest.mark.parametrize("name", ["kit.json", "authority.crt", "own.crt", "own.key"])
@pytest.mark.parametrize("kit", ["server", "hospitals/north"])
def test_a_missing_file(out: Path, kit: str, name: str) -> None:
    (out / kit / name).unlink()
    with pytest.raises(ConfigError, match=rf"/{name}: is missing"):
        read_kit(out / kit, "server" if kit == "server" else "hospital")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"x" * 100_000]
)
@pytest.mark.parametrize("name", ["kit.json", "authority.crt", "own.crt", "own.key"])
def test_a_damaged_file(out: Path, name: str, content: bytes) -> None:
    (out / "server" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"/{name}: "):
        read_kit(out / "server", "server")


def test_every_flipped_byte_of_a_certificate_is_noticed(out: Path) -> None:
    folder = out / "hospitals" / "north"
    good = read_certificate(folder / "own.crt").public_bytes(serialization.Encoding.DER)
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1
        path = folder / "own.crt"
        path.write_text(pem(bytes(bad)))
        with pytest.raises(ConfigError, match=r"/own\.crt: "):
            read_kit(folder, "hospital")


def pem(der: bytes) -> str:
    from ssl import DER_cert_to_PEM_cert

    return DER_cert_to_PEM_cert(der)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 1},
        {"role": "client"},
        {"role": "hospital"},
        {"name": "elsewhere"},
        {"server": "fl.example.org; rm", "name": "fl.example.org; rm"},
        {"port": 0},
        {"port": "many"},
        {"consortium": ""},
        {"more": 1},
    ],
)
def test_a_kit_json_that_is_none(out: Path, changed: dict[str, object]) -> None:
    path = out / "server" / "kit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(ConfigError, match=r"kit\.json: is no kit of this version"):
        read_kit(out / "server", "server")


@pytest.mark.parametrize(
    "name", ["server", "Server", "fl.example.org", "FL.example.org", "a.b", "", "../north"]
)
def test_a_hospital_cannot_be_called_as_the_server_is(out: Path, name: str) -> None:
    again(out, "hospitals/north", name or "north", "hospital", 10)
    path = out / "hospitals" / "north" / "kit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    with pytest.raises(ConfigError, match=r"kit\.json: is no kit"):
        read_kit(out / "hospitals" / "north", "hospital")


def test_a_kit_of_the_other_end(out: Path) -> None:
    with pytest.raises(ConfigError, match="is the kit of a hospital; a server's is needed"):
        read_kit(out / "hospitals" / "north", "server")


def test_the_authority_of_another_consortium(out: Path, tmp_path: Path) -> None:
    other = kits(tmp_path / "other")
    shutil.copy(other / "authority" / "authority.crt", out / "server")
    with pytest.raises(ConfigError, match=r"own\.crt: was not signed by the authority"):
        read_kit(out / "server", "server")


def swap(name: str) -> Callable[[Path], None]:
    return lambda out: shutil.copy(out / "hospitals" / "south" / name, out / "hospitals" / "north" / name)


def trust_two(out: Path) -> None:
    path = out / "hospitals" / "north" / "authority.crt"
    path.write_bytes(path.read_bytes() * 2)


def no_authority(out: Path) -> None:
    north = out / "hospitals" / "north"
    shutil.copy(north / "own.crt", north / "authority.crt")


def an_authoritys(out: Path) -> None:
    shutil.copy(out / "authority" / "authority.crt", out / "hospitals" / "north" / "own.crt")


def a_pass_phrase(out: Path) -> None:
    path = out / "hospitals" / "north" / "own.key"
    key = read_key(path)
    formed = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(key.private_bytes(*formed, serialization.BestAvailableEncryption(b"x")))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swap("own.key"), r"own\.key: is not the key of own\.crt"),
        (swap("own.crt"), r"own\.crt: is that of 'south', but kit\.json is of 'north'"),
        (trust_two, r"authority\.crt: is not one certificate"),
        (no_authority, r"authority\.crt: is not the certificate of an authority"),
        (an_authoritys, r"own\.crt: is that of 'Polysite authority'"),
        (a_pass_phrase, r"own\.key: needs a pass phrase"),
        (
            lambda out: again(out, "hospitals/north", "north", "server", 10),
            "not made to be used by a hospital",
        ),
        (lambda out: again(out, "hospitals/north", "north", "hospital", -0.01), r"own\.crt: expired on 2"),
        (lambda out: (out / "hospitals/north/own.key").chmod(0o640), r"mode 640.*: chmod 600 /.*own\.key"),
    ],
)
def test_what_does_not_belong_together(out: Path, change: Callable[[Path], object], says: str) -> None:
    change(out)
    with pytest.raises(ConfigError, match=says):
        read_kit(out / "hospitals" / "north", "hospital")


def test_a_servers_certificate_is_for_its_host_and_for_serving(out: Path) -> None:
    again(out, "server", "fl.example.org", "hospital", 10)
    with pytest.raises(ConfigError, match="not made to be used by a server"):
        read_kit(out / "server", "server")
    again(out, "server", "other.example.org", "server", 10)
    with pytest.raises(ConfigError, match=r"is that of 'other\.example\.org'"):
        read_kit(out / "server", "server")


def test_a_certificate_that_ends_soon_is_told_of_and_taken(out: Path) -> None:
    told: list[str] = []
    for days in (29.5, 30.5):
        again(out, "hospitals/north", "north", "hospital", days)
        read_kit(out / "hospitals" / "north", "hospital", told.append)
    ends = datetime.now(UTC) + timedelta(days=29.5)
    (text,) = told
    assert f"ends on {ends:%Y-%m-%d}, in 29 days" in text
    assert "--renew north" in text


@pytest.mark.parametrize(
    ("year", "says"), [(2001, "the clock of this machine says 2001-01-01 00:00"), (2500, "expired on")]
)
def test_a_clock_that_is_wrong(out: Path, monkeypatch: pytest.MonkeyPatch, year: int, says: str) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(year, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Clock)
    with pytest.raises(ConfigError, match=says):
        read_kit(out / "hospitals" / "north", "hospital")
