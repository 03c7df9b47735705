"""What a case of the benchmark is, and what an engine has to say to take part in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One engine, number of sites and payload.

    Parameters
    ----------
    n_bytes : int
        Of the one array of float32 that goes to every site and back in every round.
    folder : Path
        Empty, for all that the case writes; ``notes`` in it is there.
    python : str
        The interpreter that has the engine's package.
    """

    n_sites: int
    n_bytes: int
    rounds: int
    folder: Path
    python: str

    @property
    def n_values(self) -> int:
        """Length of the array."""
        return self.n_bytes // 4

    @property
    def notes(self) -> Path:
        """Where the sites note their work."""
        return self.folder / "notes"

    @property
    def sites(self) -> list[str]:
        """Names of the sites."""
        return [f"site-{number}" for number in range(1, self.n_sites + 1)]


@dataclass(frozen=True)
class Command:
    """A process that a user starts.

    Parameters
    ----------
    role : str
        Whose memory it is, with everything that it starts: ``server``; a site's name; ``console`` for who merely
        asks; ``all`` where one command starts everything: a process in it that does sites' work counts as a site.
    """

    role: str
    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """An engine of the benchmark.

    Parameters
    ----------
    package : str
        The module that must be there.
    prepare : callable
        Writes what the case needs into its folder, untimed; the commands, which are started at the same moment.
    """

    title: str
    package: str
    install: str
    prepare: Callable[[Case], list[Command]]
