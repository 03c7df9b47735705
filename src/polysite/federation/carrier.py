"""What a carrier does: it brings bytes to sites, tells what comes of it, and knows nothing of what is in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Came:
    """A site is there: for the first time, again, or as a new process that knows nothing of before."""

    site: str


@dataclass(frozen=True)
class Left:
    """A site is not there any more."""

    site: str
    why: str


@dataclass(frozen=True)
class Sent:
    """What was to be sent to a site has arrived there."""

    site: str


@dataclass(frozen=True)
class Lost:
    """What was to be sent to a site, or what it sent, did not arrive."""

    site: str
    why: str


@dataclass(frozen=True)
class Answered:
    """A site sent something.

    Parameters
    ----------
    data : bytes or memoryview
        May lie on disk until it is read.
    rest : callable
        Lets go of the memory that reading took; ``data`` may not have been written to. It can be read again.
    """

    site: str
    data: bytes | memoryview
    rest: Callable[[], None] = field(default=lambda: None, compare=False)


Event = Came | Left | Sent | Lost | Answered


class Carrier(Protocol):
    """One end of the wire, the server's; used by one thread."""

    def send(self, site: str, data: Sequence[memoryview]) -> None:
        """Begin to bring bytes, given in parts, to a site that came; `Sent`, `Lost` or `Left` follows."""
        ...

    def next(self, timeout_s: float) -> Event | None:
        """What happened next; None if nothing did in so many seconds."""
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...
