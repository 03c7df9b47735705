"""Server and hospitals on hosts of their own: slow lines, lines that are cut and mended, lines that stay cut."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hospitals import states
from network import Network, network
from polysite.kits.kit import read_kit
from processes import Program, Stage, make_kits, on_stage, until
from small_runs import digests, small_raw

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.enable_socket]

IMPATIENT = """
from polysite.engines.nvflare import link, parcels
link.KEEPALIVE_MS = 2000
parcels.PIECE_BYTES = 1 << 14
"""
"""A dead connection is noticed after six seconds, not 45; a payload goes in pieces though it is small."""

WAITS_IN_TRAINING = (
    IMPATIENT
    + """
import os, time
from polysite.federation.site import Site
work = Site.work
def waiting(self, round_, news):
    if round_ == 0 and not os.path.exists(os.environ["MENDED"]):
        open(os.environ["TRAINS"], "w").close()
        while not os.path.exists(os.environ["MENDED"]):
            time.sleep(0.05)
    return work(self, round_, news)
Site.work = waiting
"""
)
WIDE = {"network": {"width": 16}}
"""Payloads of 250 kB."""


@pytest.fixture
def hosts() -> Iterator[Network]:
    with network(f"ps{os.getpid()}", ["server", "north", "south"]) as made:
        yield made


@pytest.fixture
def play(hosts: Network, consortium: Path, tmp_path: Path) -> Iterator[Stage]:
    kits = make_kits(tmp_path / "kits", server=hosts.address("server"))
    raw = small_raw(consortium, training={"rounds": 2}, **WIDE)
    raw["sites"].pop("west")
    with on_stage(tmp_path, kits, raw) as stage:
        yield stage


def join(play: Stage, hosts: Network, site: str, patch: str = IMPATIENT, **env: str) -> Program:
    return play.join(site, patch=patch, prefix=hosts.prefix(site), **env)


def serve(play: Stage, hosts: Network, *options: str, **how: float) -> Program:
    listen = ("--listen", hosts.address("server"))
    return play.serve(*listen, *options, patch=IMPATIENT, prefix=hosts.prefix("server"), **how)


def test_slow_lines_that_are_cut_and_mended_change_no_byte(
    play: Stage, hosts: Network, here: Callable[..., dict[str, str]]
) -> None:
    hosts.slow("south", 1200)
    trains, mended = play.folder / "trains", play.folder / "mended"
    north = join(play, hosts, "north")
    south = join(play, hosts, "south", WAITS_IN_TRAINING, TRAINS=str(trains), MENDED=str(mended))
    server = serve(play, hosts)

    until(trains.exists, "south trains")
    hosts.cut("south")
    play.until_event("left", site="south")
    hosts.mend("south")
    mended.touch()
    play.until_event("came", n=2, site="south")

    size = until(lambda: answer_bytes(play.folder / "south" / "audit.jsonl", 1), "south sends its answer")
    until(lambda: a_part_is_there(play, size), "a part of it")
    hosts.cut("south")
    play.until_event("left", n=2, site="south")
    hosts.mend("south")

    server.ended(0)
    for program in (north, south):
        program.until_said("small has ended")
        program.leave()
    assert states(digests(play.folder, "*.safetensors")) == here(
        "north", "south", training={"rounds": 2}, **WIDE
    )
    assert "south: of " in (play.server / "nvflare" / "nvflare.txt").read_text()
    assert_nobody_else_was_contacted(hosts, "north")


def test_long_lines_change_no_byte(play: Stage, hosts: Network, here: Callable[..., dict[str, str]]) -> None:
    """A quarter of a second each way, as by satellite; one of them slow as well."""
    for site in play.raw["sites"]:
        hosts.delay(site, 250)
    hosts.slow("south", 2000)
    programs = [join(play, hosts, site) for site in play.raw["sites"]]
    server = serve(play, hosts)
    play.until_event("came", site="south")
    assert seconds_to_connect(play, hosts, "south") >= 0.5
    server.ended(0)
    for program in programs:
        program.until_said("small has ended")
        program.leave()
    assert not play.events("left")
    assert states(digests(play.folder, "*.safetensors")) == here(
        "north", "south", training={"rounds": 2}, **WIDE
    )


CONNECT = """
import socket, sys, time
start = time.monotonic()
socket.create_connection(sys.argv[1:], timeout=20).close()
print(time.monotonic() - start)
"""


def seconds_to_connect(play: Stage, hosts: Network, site: str) -> float:
    """From a hospital to the server: once there and back."""
    port = read_kit(play.kits / "server", "server").port
    return float(hosts.run(site, sys.executable, "-c", CONNECT, hosts.address("server"), str(port)))


def answer_bytes(log: Path, round_: int) -> int:
    """How many bytes a hospital's answer to a round has, once it is about to leave."""
    lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    sent = [line for line in lines if line.get("kind") == "worked" and line["round"] == round_]
    return int(sent[0]["bytes"]) if sent else 0


def a_part_is_there(play: Stage, size: int) -> bool:
    """Whether the server has written down a part of a parcel: in a file without a name."""
    process = Path(f"/proc/{play.programs[-1].process.pid}")
    for opened in (process / "fd").iterdir():
        try:
            is_one = "(deleted)" in str(opened.readlink())
            at = re.search(r"pos:\s*(\d+)", (process / "fdinfo" / opened.name).read_text())
        except FileNotFoundError:  # closed meanwhile
            continue
        if is_one and at and 0 < int(at[1]) < size // 2:
            return True
    return False


def assert_nobody_else_was_contacted(hosts: Network, site: str) -> None:
    """Only the server's address was asked for in the hospital's network; no name, and nothing beyond it."""
    neighbours = {line.split()[0] for line in hosts.run(site, "ip", "-4", "neigh").splitlines()}
    assert neighbours == {hosts.address("server")}
    counters = [line.split() for line in hosts.run(site, "cat", "/proc/net/snmp").splitlines()]
    found = {
        f"{names[0]}{name}": int(value)
        for names, values in zip(counters[::2], counters[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }
    assert found["Udp:OutDatagrams"] == 0
    assert found["Ip:OutNoRoutes"] == 0
    assert found["Tcp:PassiveOpens"] == 0


def test_a_line_that_stays_cut_leaves_one_hospital_without_a_model_until_it_is_back(
    play: Stage, hosts: Network
) -> None:
    trains, mended = play.folder / "trains", play.folder / "mended"
    north = join(play, hosts, "north")
    south = join(play, hosts, "south", WAITS_IN_TRAINING, TRAINS=str(trains), MENDED=str(mended))
    server = serve(play, hosts, "--min-sites", "1", deadline=20)
    until(trains.exists, "south trains")
    hosts.cut("south")
    said = server.ended(1)
    assert "round 1 without south: not there within 20 s; is `polysite join` running there" in said
    assert "south: still not there\nall others have their model; to make the missing ones" in said
    assert f"go on with: polysite serve --resume {play.server} --kit {play.kits / 'server'}" in said
    north.until_said("small has ended")
    hosts.mend("south")
    mended.touch()
    serve(play, hosts).ended(0)
    for program in (north, south):
        program.until_said("small has ended")
        program.leave()
    assert len(list(play.folder.glob("*/small-*/sites/*/model.safetensors"))) == 2
