"""Hospitals that are late, or whose disk is full: the others go on or the run stops, and they come back."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hospitals import states
from polysite.federation.audit import verify
from processes import Stage
from small_runs import digests

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
DEADLINE_S = 20

STOPS_ITSELF = """
import os, signal
from polysite.federation.site import Site
work = Site.work
def stopping(self, round_, news):
    if round_ == 1 and not os.path.exists(os.environ["STOPPED_ONCE"]):
        open(os.environ["STOPPED_ONCE"], "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
    return work(self, round_, news)
Site.work = stopping
"""
"""SIGSTOP of a hospital when it begins its second round."""


def test_the_others_go_on_without_a_hospital_that_is_late(stage: Callable[..., Stage]) -> None:
    play = stage()
    north, south = play.join("north", "--once"), play.join("south", "--once")
    west = play.join("west", "--once", patch=STOPS_ITSELF, STOPPED_ONCE=str(play.folder / "once"))
    server = play.serve("--min-sites", "2", deadline=DEADLINE_S)
    absent = play.until_event("absent", site="west")
    assert absent["why"] == f"west: no answer within {DEADLINE_S} s"
    assert absent["what"] == "round 2"
    west.go_on()
    said = server.ended(0)
    for program in (north, south, west):
        program.ended(0)
    assert [event["round"] for event in play.events("site", site="north")] == [0, 1, 2]
    assert [event["round"] for event in play.events("site", site="west")] == [0, 2]
    assert [event["of_round"] for event in play.events("late", site="west")] == [1]
    assert len(list(play.folder.glob("*/small-*/sites/*/model.safetensors"))) == 3
    assert f"round 2 without west: no answer within {DEADLINE_S} s" in said
    assert "west: its answer to round 2 came too late and was not used" in said


def test_the_run_stops_with_a_hospitals_name_and_goes_on_when_it_is_back(
    stage: Callable[..., Stage], here: Callable[..., dict[str, str]]
) -> None:
    play = stage("north", "south")
    north = play.join("north")
    south = play.join("south", patch=STOPS_ITSELF, STOPPED_ONCE=str(play.folder / "once"))
    said = play.serve(deadline=DEADLINE_S).ended(1)
    assert f"south: no answer within {DEADLINE_S} s" in said
    north.until_said("the server has stopped the run: south: no answer")
    south.go_on()
    play.serve().ended(0)
    assert states(digests(play.folder, "*.safetensors")) == here("north", "south")
    for program in (north, south):
        program.leave()


FILLS_ITS_DISK = """
import os
from polysite.federation.site import Site
keep = Site._leave
def leave(self, slot, version, *rest):
    ballast = os.environ["BALLAST"]
    if version == 2 and not os.path.exists(ballast):
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(file.tell() - 65536)  # enough for the log
    elif os.path.exists(ballast):
        os.truncate(ballast, 0)  # somebody made room
    keep(self, slot, version, *rest)
Site._leave = leave
"""
"""The disk of a hospital is full when it is about to keep its second round, and is not any more the next time."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB of the test's own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_hospital_whose_disk_is_full_takes_part_again_when_there_is_room(
    stage: Callable[..., Stage], small_disk: Path
) -> None:
    play = stage()
    play.write_site("south", store=str(small_disk / "south"))
    hospitals = {site: play.join(site) for site in ("north", "west")}
    south = play.join("south", patch=FILLS_ITS_DISK, BALLAST=str(small_disk / "ballast"))
    said = play.serve("--min-sites", "2").ended(0)
    assert "round 2 without south: cannot do this; its own terminal says why" in said
    assert [event["round"] for event in play.events("site", site="south")] == [0, 2]
    assert "no space left on the device" in south.said
    assert "no space" not in said
    south.until_said("south: small has ended")
    for program in (south, *hospitals.values()):
        program.leave()
    assert not list(play.folder.rglob(".tmp-*"))
    assert verify(small_disk / "south" / "audit.jsonl")
