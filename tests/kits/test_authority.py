"""Certificates are what TLS takes and no more: checked by OpenSSL, by a second verifier, and by handshakes."""

import json
import runpy
import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store

from kit_files import consortium, kits
from polysite.errors import ConfigError
from polysite.kits import primitives
from polysite.kits.authority import Authority, read_issued
from polysite.kits.certificates import fingerprint, read_certificate, spoken
from polysite.kits.kit import read_kit
from polysite.kits.provisioning import provision


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kits(tmp_path_factory.mktemp("authority") / "kits")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "kits"))


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"pip install 'polysite\[nvflare\]'"):
        runpy.run_path(primitives.__file__)


# --- what others say of the certificates --------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl is not installed")
@pytest.mark.parametrize(
    ("kit", "purpose", "good"),
    [
        ("server", "sslserver", True),
        ("server", "sslclient", False),
        ("hospitals/north", "sslclient", True),
        ("hospitals/north", "sslserver", False),
    ],
)
def test_openssl_takes_each_for_its_purpose_alone(made: Path, kit: str, purpose: str, good: bool) -> None:
    host = ["-verify_hostname", "fl.example.org"] if kit == "server" else []
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, *host, "-CAfile"]
    done = subprocess.run(
        [*command, made / kit / "authority.crt", made / kit / "own.crt"], capture_output=True, check=False
    )
    assert (done.returncode == 0) == good, done.stderr


@pytest.mark.parametrize("server", ["fl.example.org", "192.0.2.7"])
def test_a_second_verifier_builds_the_same_chain(tmp_path: Path, server: str) -> None:
    import ipaddress

    out = kits(tmp_path, server=server)
    by_name: x509.verification.Subject = (
        x509.IPAddress(ipaddress.ip_address(server)) if server[0].isdigit() else x509.DNSName(server)
    )
    builder = PolicyBuilder().store(Store([read_certificate(out / "authority" / "authority.crt")]))
    own = read_certificate(out / "server" / "own.crt")
    assert len(builder.build_server_verifier(by_name).verify(own, [])) == 2
    clients = builder.extension_policies(
        ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all()
    ).build_client_verifier()
    assert len(clients.verify(read_certificate(out / "hospitals" / "north" / "own.crt"), []).chain) == 2


def context(kit: Path, side: int) -> ssl.SSLContext:
    """Mutual TLS with a kit's files, as an engine would use them."""
    made = ssl.SSLContext(side)
    made.load_verify_locations(kit / "authority.crt")
    made.load_cert_chain(kit / "own.crt", kit / "own.key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handshake(server: Path, client: Path, host: str) -> str:
    """The client's common name as the server learns it, over two buffers in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context(client, ssl.PROTOCOL_TLS_CLIENT).wrap_bio(down, up, server_hostname=host),
        context(server, ssl.PROTOCOL_TLS_SERVER).wrap_bio(up, down, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    peer = ends[1].getpeercert()
    assert peer is not None
    return dict(pair for (pair,) in peer["subject"])["commonName"]


def test_a_hospital_and_the_server_know_each_other(made: Path) -> None:
    for name in ("north", "south"):
        assert handshake(made / "server", made / "hospitals" / name, "fl.example.org") == name


@pytest.mark.parametrize(
    ("server", "client", "host", "says"),
    [
        ("hospitals/south", "hospitals/north", "fl.example.org", "purpose"),
        ("server", "server", "fl.example.org", "purpose"),
        ("server", "hospitals/north", "other.example.org", "[Hh]ostname"),
    ],
)
def test_nobody_passes_for_another(made: Path, server: str, client: str, host: str, says: str) -> None:
    with pytest.raises(ssl.SSLError, match=says):
        handshake(made / server, made / client, host)


def test_another_consortium_of_the_same_name_is_a_stranger(made: Path, tmp_path: Path) -> None:
    other = kits(tmp_path)
    with pytest.raises(ssl.SSLError, match="verify failed"):
        handshake(made / "server", other / "hospitals" / "north", "fl.example.org")
    with pytest.raises(ssl.SSLError, match="verify failed"):
        handshake(other / "server", made / "hospitals" / "north", "fl.example.org")


# --- times and the list -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member_days", "valid_days", "days"), [(365, 3650, 365), (10, 3650, 10), (365, 7, 7)]
)
def test_a_certificate_lasts_as_long_as_asked_but_no_longer_than_its_authority(
    tmp_path: Path, member_days: int, valid_days: int, days: int
) -> None:
    before = datetime.now(UTC)
    out = kits(tmp_path, member_days=member_days, valid_days=valid_days)
    own = read_certificate(out / "hospitals" / "north" / "own.crt")
    root = read_certificate(out / "authority" / "authority.crt")
    for certificate, lasts in ((own, days), (root, valid_days)):
        off = certificate.not_valid_after_utc - before - timedelta(days=lasts)
        assert timedelta(seconds=-1) <= off < timedelta(minutes=1)
    assert own.not_valid_after_utc <= root.not_valid_after_utc
    assert before - own.not_valid_before_utc >= timedelta(minutes=59)


def test_the_list_has_every_certificate_that_was_signed(out: Path) -> None:
    provision(consortium(), out, renew=["north", "server"])
    issued = read_issued(out / "authority")
    names = [(record.role, record.name) for record in issued]
    first = [("server", "fl.example.org"), ("hospital", "north"), ("hospital", "south")]
    assert names == [*first, *first[:2]]
    assert len({record.serial for record in issued}) == len({record.public_key for record in issued}) == 5
    own = read_certificate(out / "hospitals" / "north" / "own.crt")
    assert int(issued[-1].serial, 16) == own.serial_number
    assert issued[-1].ends == own.not_valid_after_utc
    key = own.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert issued[-1].public_key == fingerprint(own.public_key()) == sha256(key).hexdigest()
    assert spoken(issued[-1].public_key).replace(" ", "") == issued[-1].public_key


# --- the authority's folder ---------------------------------------------------------------------------


def unchanged(out: Path, says: str) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*.crt")}
    with pytest.raises(ConfigError, match=says):
        provision(consortium(hospitals=("north", "south", "west")), out)
    assert {path: path.read_bytes() for path in out.rglob("*.crt")} == before
    assert not (out / "hospitals" / "west").exists()


def test_a_key_that_others_can_read(out: Path) -> None:
    (out / "authority" / "authority.key").chmod(0o604)
    unchanged(out, r"authority\.key: others can read this key \(mode 604\); run: chmod 600")


def test_a_key_of_another_authority(out: Path, tmp_path: Path) -> None:
    other = kits(tmp_path / "other")
    shutil.copy(other / "authority" / "authority.key", out / "authority" / "authority.key")
    unchanged(out, r"authority\.key: is not the key of authority\.crt")


def test_a_members_certificate_is_no_authoritys(out: Path) -> None:
    for name in ("crt", "key"):
        shutil.copy(out / "hospitals" / "north" / f"own.{name}", out / "authority" / f"authority.{name}")
    unchanged(out, r"authority\.crt: is not the certificate of an authority")


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[" * 10_000, '[{"name": "north"}]'])
@pytest.mark.parametrize("name", ["issued.json", "consortium.json"])
def test_a_damaged_list(out: Path, name: str, content: str) -> None:
    (out / "authority" / name).write_text(content)
    unchanged(out, f"{name}: is damaged; restore it from a backup")


@pytest.mark.parametrize("name", ["issued.json", "consortium.json", "authority.key", "authority.crt"])
def test_a_lost_file_is_not_made_anew(out: Path, name: str) -> None:
    (out / "authority" / name).unlink()
    unchanged(out, f"{name}: is missing")


@pytest.mark.parametrize("over", [{"name": "other"}, {"server": "elsewhere"}, {"port": 1}])
def test_kits_of_another_consortium_are_not_added_to(out: Path, over: dict[str, object]) -> None:
    (key,) = over
    with pytest.raises(ConfigError, match=rf"^{key}: .* choose another folder for new kits"):
        provision(consortium(**over), out)


def test_an_authority_whose_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = kits(tmp_path, valid_days=1)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2500, 1, 1, tzinfo=UTC)

    monkeypatch.setattr("polysite.kits.authority.datetime", Tomorrow)
    unchanged(out, r"authority\.crt: expired on .*provision into another folder")


def test_a_renewed_certificate_that_is_not_ours_is_not_signed_again(out: Path, tmp_path: Path) -> None:
    """Whoever can write into the list cannot have a key signed by it."""
    other = kits(tmp_path / "other")
    path = out / "authority" / "issued.json"
    listed = json.loads(path.read_text())
    listed[1] |= {
        "keys": "own",
        "certificate": (other / "hospitals" / "north" / "own.crt").read_text(),
        "public_key": read_issued(other / "authority")[1].public_key,
    }
    path.write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match=r"issued\.json: was not signed by the authority"):
        provision(consortium(), out, renew=["north"])
    assert read_kit(out / "hospitals" / "north", "hospital").name == "north"


def test_an_authority_can_sign_for_its_own_consortium_alone(out: Path) -> None:
    with pytest.raises(ConfigError, match=r"^name: 'other'"):
        Authority(out / "authority", consortium(name="other"))
