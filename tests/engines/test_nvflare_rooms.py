"""What arrives is written down as it is, and where it was written is used again when nobody reads it any more."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polysite.engines.nvflare.rooms import MOST_FREE, Files, InMemory, Room
from polysite.federation.memory import Memory

SIZE = 300_001
Filled = Callable[[bytes], memoryview]


@pytest.fixture(params=["memory", "file"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Filled]:
    """Bytes written in pieces, as they come back."""
    memory, files = Memory(), Files(tmp_path)

    def fill(data: bytes) -> memoryview:
        room: Room = InMemory(memory, len(data)) if request.param == "memory" else files.room()
        for start in range(0, len(data), 70_000):
            room.write(memoryview(data)[start : start + 70_000])
        return room.content()

    yield fill
    files.close()


def test_content_is_what_was_written_also_in_a_room_that_is_used_again(filled: Filled) -> None:
    for size in (SIZE, 10, SIZE + 1, 1):
        data = os.urandom(size)
        assert filled(data) == data


def test_content_that_is_still_read_does_not_change(filled: Filled) -> None:
    data = [os.urandom(SIZE) for _ in range(4)]
    content = [filled(one) for one in data]
    assert content == data
    content[0][:5] = b"12345"  # it can be written to
    part = content[1][100:200]
    content.clear()
    assert filled(bytes(SIZE)) == bytes(SIZE)
    assert part == data[1][100:200]


def test_content_is_read_again_from_its_file_after_a_rest(tmp_path: Path) -> None:
    files, data = Files(tmp_path), os.urandom(SIZE)
    room = files.room()
    room.rest()
    room.write(memoryview(data))
    content = room.content()
    assert content == data
    room.rest()
    assert content == data
    files.close()


def test_few_files_stay_when_many_were_needed_at_once(tmp_path: Path) -> None:
    files, rooms = Files(tmp_path), []
    for _ in range(10):
        rooms.append(files.room())
        rooms[-1].write(memoryview(b"some"))
    content = [room.content() for room in rooms]
    del content
    assert sum(not room._file.closed for room in rooms) == MOST_FREE
    assert {file.tell() for file in files._free} == {0}
    files.close()
    assert all(room._file.closed for room in rooms)


def test_files_are_used_again_and_closed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    rooms = [files.room() for _ in range(2)]
    for room in rooms:
        room.write(memoryview(b"some"))
    numbers = {room._file.fileno() for room in rooms}
    held = rooms[0].content()
    assert rooms[1].content() == b"some"
    again, new = files.room(), files.room()
    assert again._file.fileno() in numbers
    assert new._file.fileno() not in numbers
    assert list(tmp_path.iterdir()) == []
    for room in (again, new):
        room.close()
        assert room._file.closed
    files.close()
    assert held == b"some"
    file = rooms[0]._file
    assert not file.closed
    del held
    assert file.closed
