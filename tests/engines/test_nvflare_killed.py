"""``kill -9`` of hospitals and of the server at the worst moments: the run goes on, and its bytes are the same."""

from collections.abc import Callable

import pytest

from hospitals import states
from processes import Stage, killed_at
from small_runs import digests

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

AFTER_TRAINING = killed_at("""
from polysite.federation.site import Site
keep = Site._leave
def leave(self, slot, version, *rest):
    if version == 2:
        die()
    keep(self, slot, version, *rest)
Site._leave = leave
""")
"""A hospital has trained its second round and kept nothing of it."""

SENDING = killed_at("""
from polysite.engines.nvflare import link, parcels
parcels.PIECE_BYTES = 4096
send = link.Link._emit
def emit(self, peer, about, data):
    if about["kind"] == "piece" and about["number"] == 3 and about["at"] > about["size"] // 2:
        time.sleep(0.5)
        die()
    send(self, peer, about, data)
link.Link._emit = emit
""")
"""A hospital's third parcel, the answer to round 2, is half on its way."""

AGGREGATING = killed_at("""
from polysite.federation.across import Across
visited = Across.visit
def visit(self, round_, news, sites):
    for number, message in enumerate(visited(self, round_, news, sites)):
        if (round_, number) == (1, 1):
            die()
        yield message
Across.visit = visit
""")
"""The server has taken the first hospital's answer of the second round, and asks for the next one."""

WRITING = killed_at("""
flush = os.fsync
def fsync(descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if path.endswith("/server/server/store/.tmp-round-000002/state.safetensors"):
        os.truncate(path, os.path.getsize(path) // 2)
        die()
    flush(descriptor)
os.fsync = fsync
""")
"""Half of the server's state after the second round is on the disk."""


def test_hospitals_killed_in_training_and_while_they_send(
    stage: Callable[..., Stage], here: Callable[..., dict[str, str]]
) -> None:
    play = stage("north", "south")
    north, south = play.join("north", patch=AFTER_TRAINING), play.join("south", patch=SENDING)
    server = play.serve()
    for program in (north, south):
        program.ended(-9)
    play.until_event("left", site="north")
    play.until_event("left", site="south")
    again = [play.join(site, "--once") for site in ("north", "south")]
    said = server.ended(0)
    for program in again:
        program.ended(0)
    assert states(digests(play.folder, "*.safetensors")) == here("north", "south")
    assert (
        "south: of " in (play.server / "nvflare" / "nvflare.txt").read_text()
    )  # only a part of it had arrived
    assert "north: is gone: its connection ended" in said
    assert "north: is there" in said


def test_a_server_killed_in_aggregation_and_while_it_writes(
    stage: Callable[..., Stage], here: Callable[..., dict[str, str]]
) -> None:
    play = stage("north", "south")
    hospitals = play.join_all()
    play.serve(patch=AGGREGATING).ended(-9)
    play.serve(patch=WRITING).ended(-9)
    assert (play.server / "server" / "store" / ".tmp-round-000002" / "state.safetensors").exists()
    play.serve().ended(0)
    assert states(digests(play.folder, "*.safetensors")) == here("north", "south")
    for site, hospital in hospitals.items():
        hospital.until_said(f"{site}: small has ended")
        assert hospital.leave().count("connected to localhost") >= 2
