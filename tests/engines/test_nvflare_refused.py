"""Who is not in order stays outside, is told why, and disturbs nobody: certificates, names, versions, noise."""

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hospitals import states
from polysite.kits.kit import read_kit
from processes import Stage, free_port, make_kits, until
from raw_clients import answer_to, expired, opened
from small_runs import digests

pytest.importorskip("nvflare", reason="nvflare is not installed: pip install '.[nvflare]'")

from polysite.engines.nvflare import link
from polysite.engines.nvflare.carrier import NVFlare
from polysite.engines.nvflare.line import Line
from polysite.engines.nvflare.probe import trouble_reaching
from polysite.federation.carrier import Came

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.enable_socket]


@pytest.fixture
def server(consortium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NVFlare]:
    monkeypatch.setattr(link, "HANDSHAKE_MS", 3000)
    kit = read_kit(consortium / "kits" / "server", "server")
    with closing(NVFlare(kit, tmp_path / "server", {"north": 100}, listen="127.0.0.1")) as end:
        yield end


@pytest.fixture
def port(consortium: Path) -> int:
    return read_kit(consortium / "kits" / "server", "server").port


@pytest.fixture
def bad_kits(consortium: Path, tmp_path: Path) -> dict[str, Path | None]:
    """Certificates that are not in order, by what the server's terminal says of them."""
    kits = consortium / "kits"
    return {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": None,
        "certificate has expired": expired(
            kits / "hospitals" / "north", kits / "authority", tmp_path / "expired"
        ),
        "unable to get local issuer certificate": make_kits(tmp_path / "others") / "hospitals" / "north",
        "unsupported certificate purpose": kits / "server",
    }


def test_hospitals_get_in_while_others_are_refused(
    server: NVFlare,
    port: int,
    consortium: Path,
    bad_kits: dict[str, Path | None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    north = consortium / "kits" / "hospitals" / "north"
    with ExitStack() as ends:
        silent = [
            ends.enter_context(opened(port, said)) for said in [b""] * 10 + [b"\x16\x03\x01\x02\x00\x01"] * 10
        ]
        noise = [ends.enter_context(opened(port, b"hello, this is no TLS\r\n" * 10)) for _ in range(10)]
        for version in (2, 3):
            assert answer_to(port, north, b"no HTTP/2 at all\r\n\r\n", version=version) == "closed"
            for kit in bad_kits.values():
                assert answer_to(port, kit, version=version) in ("closed", "UNEXPECTED_EOF_WHILE_READING")
        kit = read_kit(north, "hospital")
        ends.enter_context(closing(Line(kit, tmp_path / "north", lambda: 100, lambda text: None)))
        assert until(lambda: server.next(0.1), "north", within=30) == Came("north")
        assert all(one.recv(100) == b"" for one in noise)
        silent[0].settimeout(60)
        assert silent[0].recv(100) == b""  # a handshake that is not finished is given up
    said = capfd.readouterr().err
    for words in (*bad_kits, "WRONG_VERSION_NUMBER"):
        assert words in said


@contextmanager
def tls_server(port: int, kit: Path, authority: Path | None = None) -> Iterator[None]:
    """A server that shakes hands with a kit's certificate, then hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(kit / "own.crt", kit / "own.key")
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED

    with socket.create_server(("127.0.0.1", port)) as listener:

        def work() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                    with plain, context.wrap_socket(plain, server_side=True):
                        pass
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def test_a_hospital_says_why_it_does_not_reach_its_server(consortium: Path, tmp_path: Path) -> None:
    kits = consortium / "kits"
    kit = read_kit(kits / "hospitals" / "north", "hospital")
    others = make_kits(tmp_path / "others")
    assert "Connection refused; is `polysite serve` running there?" in trouble_reaching(kit)
    with tls_server(kit.port, others / "server"):
        assert "its certificate is not one of this consortium" in trouble_reaching(kit)
    with tls_server(kit.port, kits / "hospitals" / "south"):
        assert "its certificate is not one of this consortium" in trouble_reaching(kit)
    with tls_server(kit.port, expired(kits / "server", kits / "authority", tmp_path / "expired")):
        assert "its certificate has expired; the server's kit has to be renewed" in trouble_reaching(kit)
    with tls_server(kit.port, kits / "server", others / "hospitals" / "north" / "authority.crt"):
        assert "does not accept this hospital's certificate" in trouble_reaching(kit)
    elsewhere = shutil.copytree(kit.folder, tmp_path / "elsewhere")
    about = json.loads((elsewhere / "kit.json").read_text())
    (elsewhere / "kit.json").write_text(
        json.dumps({**about, "server": "nowhere.invalid", "port": free_port()})
    )
    assert "nowhere.invalid: no such host" in trouble_reaching(read_kit(elsewhere, "hospital"))


def test_a_hospital_says_that_its_certificate_is_not_taken(
    server: NVFlare, consortium: Path, tmp_path: Path
) -> None:
    kits = consortium / "kits"
    kit = read_kit(kits / "hospitals" / "north", "hospital")
    assert "is there, but does not answer yet" in trouble_reaching(kit)
    old = expired(kit.folder, kits / "authority", tmp_path / "expired")
    for file in ("authority.crt", "kit.json"):
        shutil.copy(kit.folder / file, old / file)

    assert "does not accept this hospital's certificate" in trouble_reaching(replace(kit, folder=old))


def test_a_run_is_not_disturbed_by_a_second_process_or_a_stranger(
    stage: Callable[..., Stage], here: Callable[..., dict[str, str]]
) -> None:
    play = stage("north", "south")
    first, server = play.join("north"), play.serve()
    play.until_event("came", site="north")
    play.write_site("north", name="copy")
    copy, stranger = play.join("north", name="copy"), play.join("east")
    assert (
        "north: another `polysite join` of this name is connected to the server; stop that one"
        in copy.ended(1)
    )
    stranger.until_said("turns this hospital away: the run that is served there has no site of this name")
    south = play.join("south")
    said = server.ended(0)
    assert "north: a second `polysite join` was turned away; the first one takes part" in said
    assert "east: is no site of this run and was turned away" in said
    assert not play.events("left")
    for program in (first, south, stranger):
        program.leave()
    assert states(digests(play.folder, "*.safetensors")) == here("north", "south")


OTHER_PLAN = """
from polysite.algorithms.pflsynth import PFLSynth
shared = PFLSynth.shared
PFLSynth.shared = lambda self, model: set(sorted(shared(self, model))[1:])
"""
OTHER_KEYS = """
from polysite.config.run import Run
digest = Run.digest
Run.digest = lambda self: digest(self)[::-1]
"""
OTHER_LINK = """
from polysite.engines.nvflare import link
link.FORMAT = 99
"""


@pytest.mark.parametrize(
    ("patch", "words"),
    [(OTHER_PLAN, "sent plan "), (OTHER_KEYS, "its run has another digest here")],
)
def test_another_version_is_refused_with_words_at_both_ends(
    stage: Callable[..., Stage], patch: str, words: str
) -> None:
    play = stage("north")
    north = play.join("north", "--once", patch=patch)
    said = play.serve().ended(1)
    there = north.ended(1)
    for text in (said, there):
        assert words in text
        assert "the same version of Polysite is needed at both ends" in " ".join(text.split())


def test_another_version_of_the_messages_is_named_at_the_hospital(stage: Callable[..., Stage]) -> None:
    play = stage("north")
    server, north = play.serve(), play.join("north", patch=OTHER_LINK)
    north.until_said("turns this hospital away: another version of Polysite is there")
    server.until_said("north: has another version of Polysite and was turned away")
    for program in (north, server):
        program.leave()
