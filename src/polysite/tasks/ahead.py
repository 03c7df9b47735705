"""The next batches are made while a step computes, so that training does not wait for the disk."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def ahead(items: Iterable[Any], n: int = 2) -> Generator[Any, None, None]:
    """The same items in the same order, up to ``n`` of them made before they are asked for.

    One thread of its own makes them, so whatever draws random numbers on the way draws the same. What making
    an item raises is raised where that item would come. Close it where a loop may end early.

    >>> list(ahead(range(5)))
    [0, 1, 2, 3, 4]
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="polysite-ahead") as pool:
        pending = deque(pool.submit(next, source, end) for _ in range(n))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, source, end))
            yield item
