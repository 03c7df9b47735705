"""Items made ahead are the same items, and nothing is left behind."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from polysite.tasks.ahead import ahead


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "ahead" in thread.name]


@pytest.mark.parametrize("n", [1, 2, 5, 50])
def test_the_order_is_kept(n):
    assert list(ahead(range(20), n)) == list(range(20))
    assert list(ahead([], n)) == []


def test_the_next_is_made_while_the_last_is_used_and_no_more():
    made: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    given = ahead(items(), 2)
    assert next(given) == 0
    assert third.wait(10)  # 1 and 2 are made without being asked for
    assert next(given) == 1
    given.close()
    assert made[-1] <= 4
    assert not names()


def test_an_error_comes_where_its_item_would():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk")

    given = ahead(items())
    assert [next(given), next(given)] == [1, 2]
    with pytest.raises(OSError, match="the disk"):
        next(given)
    assert not names()


def test_a_loop_that_ends_early_leaves_no_thread():
    with closing(ahead(range(100))) as given:
        for number in given:
            if number == 3:
                break
    assert not names()
