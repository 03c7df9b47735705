"""Kits are made once, whole or not at all; others stay as they are; a hospital's own key is never made here."""

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from command import polysite, refused, well
from kit_files import consortium, contents, kits
from polysite.errors import ConfigError
from polysite.kits.authority import Authority, read_issued
from polysite.kits.certificates import fingerprint, read_certificate, read_key, spoken
from polysite.kits.kit import read_kit
from polysite.kits.provisioning import provision
from polysite.kits.requests import make_request

OWN = {"own_keys": ("south",)}
YAML = "name: trial\nserver: fl.example.org\nhospitals: [north, south]\nown_keys: [south]\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kits(tmp_path_factory.mktemp("provisioning") / "kits")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "kits"))


def asked(folder: Path, name: str = "south") -> Path:
    """A hospital's folder with its key and request."""
    make_request(name, folder)
    return folder / "request.csr"


def received(out: Path, own: Path) -> None:
    """What a hospital does with the files that it is sent: it puts them beside its key."""
    for path in (out / "hospitals" / "south").iterdir():
        shutil.copy(path, own)


# --- made once ----------------------------------------------------------------------------------------


def test_a_second_time_nothing_changes(out: Path) -> None:
    before = contents(out)
    assert provision(consortium(), out) == []
    assert contents(out) == before


def test_a_hospital_that_is_added_gets_a_kit_and_the_others_keep_theirs(out: Path) -> None:
    before = contents(out)
    ((member, issued),) = provision(consortium(hospitals=("west", "north", "south")), out)
    assert (member.folder, issued.name) == (out / "hospitals" / "west", "west")
    after = contents(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name for name in changed if "west" not in name} == {"authority/issued.json"}
    assert read_kit(member.folder, "hospital").name == "west"


def test_a_kit_that_was_handed_out_is_not_made_again(out: Path) -> None:
    shutil.rmtree(out / "hospitals" / "north")
    told: list[str] = []
    assert provision(consortium(), out, tell=told.append) == []
    assert not (out / "hospitals" / "north").exists()
    assert any("north: its kit was made on" in text and "--renew north" in text for text in told)
    assert provision(consortium(), out, renew=["north"])[0][0].word == "north"
    assert read_kit(out / "hospitals" / "north", "hospital").name == "north"


def test_a_certificate_that_ends_soon_is_told_of(tmp_path: Path) -> None:
    kits(tmp_path, member_days=20)
    told: list[str] = []
    provision(consortium(), tmp_path, tell=told.append)
    assert any(text.startswith("north: its certificate ends on") and "--renew north" in text for text in told)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these modes")
def test_keys_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        out = kits(tmp_path / "kits")
        make_request("south", tmp_path / "own")
    finally:
        os.umask(before)
    keys = [*out.rglob("*.key"), tmp_path / "own" / "own.key"]
    assert len(keys) == 5
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_member_has_a_key_of_its_own(out: Path) -> None:
    assert len({path.read_bytes() for path in out.rglob("*.key")}) == 4


# --- renewed ------------------------------------------------------------------------------------------


def test_a_renewed_kit_has_a_new_key_and_the_others_keep_theirs(out: Path) -> None:
    before = contents(out)
    assert [member.word for member, _ in provision(consortium(), out, renew=["north", "server"])] == [
        "server",
        "north",
    ]
    after = contents(out)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {
        "authority/issued.json",
        *(f"{kit}/own.{ending}" for kit in ("server", "hospitals/north") for ending in ("crt", "key")),
    }
    read_kit(out / "server", "server")
    read_kit(out / "hospitals" / "north", "hospital")


def test_a_renewed_certificate_fits_the_key_that_the_hospital_has(tmp_path: Path) -> None:
    out, own = tmp_path / "kits", tmp_path / "own"
    provision(consortium(**OWN), out, requests=[asked(own)])
    received(out, own)
    first = read_certificate(own / "own.crt")
    shutil.rmtree(out / "hospitals")  # handed out, and removed as advised
    provision(consortium(), out, renew=["south"])  # no longer among own_keys: its key still is
    received(out, own)
    again = read_certificate(own / "own.crt")
    assert again.serial_number != first.serial_number
    assert again.public_key() == first.public_key()
    assert read_kit(own, "hospital").name == "south"
    assert not list((out / "hospitals").rglob("*.key"))


def test_a_hospital_can_renew_with_a_new_key_of_its_own(tmp_path: Path) -> None:
    out = kits(tmp_path / "kits")
    with pytest.raises(ConfigError, match=r"--renew south: it is among `own_keys`; add its --request"):
        provision(consortium(**OWN), out, renew=["south"])
    request = asked(tmp_path / "own")
    with pytest.raises(ConfigError, match=r"south has a kit since .*; add --renew south"):
        provision(consortium(**OWN), out, requests=[request])
    provision(consortium(**OWN), out, requests=[request], renew=["south"])
    assert not (out / "hospitals" / "south" / "own.key").exists()
    received(out, tmp_path / "own")
    assert read_kit(tmp_path / "own", "hospital").name == "south"


# --- a hospital's own key -----------------------------------------------------------------------------


def test_a_hospital_with_its_own_key_gets_no_other(tmp_path: Path) -> None:
    out, told = tmp_path / "kits", list[str]()
    made = provision(consortium(**OWN), out, tell=told.append)
    assert [member.word for member, _ in made] == ["server", "north"]
    assert not (out / "hospitals" / "south").exists()
    (text,) = [text for text in told if text.startswith("south: ")]
    assert "no kit until its --request is here" in text

    request = asked(tmp_path / "own")
    ((member, issued),) = provision(consortium(**OWN), out, requests=[request])
    assert sorted(path.name for path in member.folder.iterdir()) == ["authority.crt", "kit.json", "own.crt"]
    key = read_key(tmp_path / "own" / "own.key")
    assert issued.public_key == fingerprint(key.public_key())
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    pem = (tmp_path / "own" / "own.key").read_bytes().splitlines()[1]
    for content in (*contents(out).values(), request.read_bytes()):
        assert der not in content
        assert scalar not in content
        assert pem not in content
    received(out, tmp_path / "own")
    assert read_kit(tmp_path / "own", "hospital").name == "south"


def test_both_ends_show_the_same_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "consortium.yaml"
    file.write_text(YAML)
    at_hospital = polysite("request", "south", tmp_path / "own")
    assert at_hospital.out.split() == [str(tmp_path / "own" / "request.csr")]
    done = polysite("provision", file, tmp_path / "kits", "--request", tmp_path / "own" / "request.csr")
    assert done.out.split() == [
        str(tmp_path / "kits" / kit) for kit in ("server", "hospitals/north", "hospitals/south")
    ]
    digits = spoken(fingerprint(read_key(tmp_path / "own" / "own.key").public_key()))
    assert f"south: fingerprint {digits}\n" in at_hospital.err
    assert f"fingerprint {digits}\n" in done.err
    assert "authority: valid until " in done.err
    again = well("provision", file, tmp_path / "kits", "--renew", "server", "--renew", "south")
    assert again.split() == [str(tmp_path / "kits" / kit) for kit in ("server", "hospitals/south")]


def csr(path: Path, name: str, key: object = None, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Path:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    own: object = key or ec.generate_private_key(curve())
    digest = None if isinstance(own, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(own, digest)  # type: ignore[arg-type]
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("key", [lambda: rsa.generate_private_key(65537, 2048), lambda: None])
def test_a_request_may_come_from_another_program(out: Path, tmp_path: Path, key: object) -> None:
    assert callable(key)
    request = csr(tmp_path / "south.csr", "south", key(), ec.SECP384R1)
    provision(consortium(), out, requests=[request], renew=["south"])
    own = read_certificate(out / "hospitals" / "south" / "own.crt")
    assert own.public_key() == x509.load_pem_x509_csr(request.read_bytes()).public_key()


def test_what_else_a_request_asks_for_is_ignored(out: Path, tmp_path: Path) -> None:
    """To be an authority, or to be the server."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "other"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "south"),
    ]
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(names))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("fl.example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "south.csr").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = read_certificate(out / "hospitals" / "south" / "own.crt")
    provision(consortium(), out, requests=[tmp_path / "south.csr"], renew=["south"])
    own = read_certificate(out / "hospitals" / "south" / "own.crt")
    assert own.subject == plain.subject
    assert [part.oid for part in own.extensions] == [part.oid for part in plain.extensions]
    assert not own.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


# --- refused, and nothing made ------------------------------------------------------------------------


def another_name(tmp_path: Path) -> list[object]:
    return ["--request", csr(tmp_path / "east.csr", "east")]


def the_server(tmp_path: Path) -> list[object]:
    return ["--request", csr(tmp_path / "s.csr", "fl.example.org")]


def another_signature(tmp_path: Path) -> list[object]:
    path = csr(tmp_path / "s.csr", "north")
    der = x509.load_pem_x509_csr(path.read_bytes()).public_bytes(serialization.Encoding.DER)
    changed = x509.load_der_x509_csr(der.replace(b"north", b"south"))
    path.write_bytes(changed.public_bytes(serialization.Encoding.PEM))
    return ["--request", path]


def twice(tmp_path: Path) -> list[object]:
    return ["--request", csr(tmp_path / "1.csr", "south"), "--request", csr(tmp_path / "2.csr", "south")]


def one_key(tmp_path: Path) -> list[object]:
    key = ec.generate_private_key(ec.SECP256R1())
    north, south = (csr(tmp_path / f"{name}.csr", name, key) for name in ("north", "south"))
    return ["--request", north, "--request", south]


def text(tmp_path: Path) -> list[object]:
    (tmp_path / "s.csr").write_text("south")
    return ["--request", tmp_path / "s.csr"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (another_name, "is of 'east', which is not among `hospitals` (north, south)"),
        (the_server, "is of 'fl.example.org', which is not among `hospitals`"),
        (another_signature, "its signature does not fit its key"),
        (twice, "2.csr: is of 'south', as"),
        (one_key, "south.csr: has the same key as"),
        (text, "is no signing request"),
        (lambda folder: ["--request", folder / "gone.csr"], "gone.csr: is missing"),
        (lambda folder: ["--request", folder], "cannot be read: Is a directory"),
        (
            lambda folder: [
                "--request",
                csr(folder / "s.csr", "south", rsa.generate_private_key(65537, 1024)),
            ],
            "another kind or size (1024)",
        ),
        (
            lambda folder: ["--request", csr(folder / "s.csr", "south", curve=ec.SECP521R1)],
            "another kind or size (secp521r1)",
        ),
        (
            lambda folder: [
                "--request",
                csr(folder / "s.csr", "south", ed25519.Ed25519PrivateKey.generate()),
            ],
            "another kind or size",
        ),
        (lambda folder: ["--renew", "north"], "--renew north: it has no kit yet"),
        (lambda folder: ["--renew", "east"], "--renew east: choose one of: server, north, south"),
    ],
)
def test_what_is_wrong_makes_nothing(tmp_path: Path, arguments: object, says: str) -> None:
    file = tmp_path / "consortium.yaml"
    file.write_text(YAML)
    assert callable(arguments)
    refused("provision", file, tmp_path / "kits", *arguments(tmp_path), says=[says], status=2)
    assert not (tmp_path / "kits").exists()


def test_the_key_of_another_member(out: Path, tmp_path: Path) -> None:
    request = csr(tmp_path / "s.csr", "south", read_key(out / "hospitals" / "north" / "own.key"))
    before = contents(out)
    with pytest.raises(ConfigError, match="has the key of 'north'"):
        provision(consortium(), out, requests=[request], renew=["south"])
    assert contents(out) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ConfigError, match="holds no kits"):
        provision(consortium(), tmp_path)
    assert contents(tmp_path) == {"thesis.docx": b""}


def test_a_kit_from_elsewhere_is_not_overwritten(out: Path) -> None:
    (out / "hospitals" / "west").mkdir()
    (out / "hospitals" / "west" / "own.key").write_text("precious")
    with pytest.raises(ConfigError, match="west: is there already, but not in the authority's list"):
        provision(consortium(hospitals=("north", "south", "west")), out)
    assert (out / "hospitals" / "west" / "own.key").read_text() == "precious"


# --- stopped half-way ---------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_kits_as_they_were(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(out)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Authority, "record", full)
        with pytest.raises(OSError, match="No space"):
            provision(consortium(hospitals=("north", "south", "west")), out, renew=["north"])
    assert contents(out) == before


@pytest.mark.parametrize("n", range(4))
def test_a_process_that_ends_at_any_rename_leaves_whole_kits(
    out: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """As ``kill -9`` would: from then on nothing is renamed or removed; the next call mends it."""
    rename, rmtree, left = Path.rename, shutil.rmtree, n

    def renames(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return rename(self, target)

    def removes(folder: Path) -> None:
        if left < 0:
            raise KeyboardInterrupt
        rmtree(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renames)
        patch.setattr(shutil, "rmtree", removes)
        with pytest.raises(KeyboardInterrupt):
            provision(consortium(), out, renew=["north", "server"])
    assert [path for path in out.rglob(".*") if path.name != ".lock"]
    provision(consortium(), out)
    for kit in (out / "server", *(out / "hospitals").iterdir()):
        read_kit(kit, "server" if kit.name == "server" else "hospital")
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
    issued = {record.serial for record in read_issued(out / "authority")}
    assert all(f"{read_certificate(path).serial_number:x}" in issued for path in out.rglob("own.crt"))


def test_two_at_once_make_every_kit_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: len(provision(consortium(), tmp_path / "kits")), range(4)))
    assert sorted(made) == [0, 0, 0, 3]
    assert len(read_issued(tmp_path / "kits" / "authority")) == 3


def test_a_first_call_that_ended_early_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / ".authority.new").mkdir()
    (tmp_path / ".lock").touch()
    assert len(provision(consortium(), tmp_path)) == 3


# --- a request ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["server", "Server", "a.b", "", "../x", "x" * 65])
def test_a_name_that_no_hospital_can_have(tmp_path: Path, name: str) -> None:
    refused("request", name, tmp_path / "own", says=[f"NAME {name!r}"], status=2)
    assert not contents(tmp_path)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    make_request("south", tmp_path / "own")
    before = contents(tmp_path)
    refused("request", "south", tmp_path / "own", says=["is there already"], status=2)
    assert contents(tmp_path) == before
