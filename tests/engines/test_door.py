"""Frames through a Unix socket: what goes in comes out, and a side that is gone is noticed."""

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polysite.engines.door import Closed, Door, knock, receive, send


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


@given(st.text(max_size=64).filter(lambda text: text.isprintable()), st.binary(max_size=5000), st.booleans())
@settings(deadline=None)
def test_a_frame_comes_as_it_was_sent(site: str, content: bytes, trouble: bool) -> None:
    one, other = socket.socketpair()
    with one, other:
        send(one, site, content, trouble=trouble)
        assert receive(other) == (site, content, trouble)


def test_long_frames_come_one_after_another() -> None:
    one, other = socket.socketpair()
    contents = [os.urandom(n) for n in (3_000_000, 0, 1, 500_000)]
    with one, other:
        sender = threading.Thread(target=lambda: [send(one, "north", content) for content in contents])
        sender.start()
        assert [receive(other)[1] for _ in contents] == contents
        sender.join()


def test_what_one_thread_waits_for_does_not_break_off_what_another_sends() -> None:
    one, other = socket.socketpair()
    content, told, got = os.urandom(5_000_000), threading.Event(), []

    def listen() -> None:
        with suppress(Closed):
            receive(one, told.is_set, poll_s=0.01)

    def read_late() -> None:
        time.sleep(0.2)
        got.append(receive(other)[1])

    with one, other:
        threads = [threading.Thread(target=work) for work in (listen, read_late)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        send(one, "north", content)
        threads[1].join()
        told.set()
        threads[0].join()
    assert got == [content]


@pytest.mark.parametrize(
    "sent", [b"", b"c", b"c\x05\x00no", b"c\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00half"]
)
def test_a_side_that_is_gone_is_noticed(sent: bytes) -> None:
    one, other = socket.socketpair()
    with other:
        with one:
            one.sendall(sent)
        with pytest.raises(Closed, match="gone"):
            receive(other)


@pytest.mark.parametrize("sent", [b"x\x00\x00" + bytes(8), b"c\x00\x00" + b"\xff" * 8])
def test_what_is_no_frame_is_refused(sent: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(sent)
        with pytest.raises(Closed, match="no frame"):
            receive(other)


def test_waiting_ends_when_told(door: Door) -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(Closed, match="told to stop"):
        receive(other, lambda: True, poll_s=0.01)
    with pytest.raises(Closed, match="told to stop"):
        door.wait(lambda: True)


def test_only_the_user_can_reach_the_door(door: Door) -> None:
    folder = Path(door.path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with knock(door.path) as outside, door.wait(lambda: False) as inside:
        send(outside, "north", b"hello")
        assert receive(inside) == ("north", b"hello", False)
    door.close()
    assert not folder.exists()
    with pytest.raises(Closed):
        knock(door.path)
