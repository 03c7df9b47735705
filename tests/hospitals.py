"""A federation whose sites are reached by bytes alone: the loop-back carrier, and hospitals made of a run's YAML."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polysite import recipe
from polysite.config.hospital import Hospital, Policy
from polysite.config.run import Run
from polysite.federation.audit import Audit
from polysite.federation.carrier import Answered, Came, Event, Sent
from polysite.federation.remote import Outpost
from polysite.hospitals.opening import note, opener
from polysite.hospitals.serving import create_served, serve
from polysite.seal import seal_models

OPEN_POLICY = Policy(runs=("small", "toy", "cubes"), leaves=("*",), min_subjects=1)


class Loop:
    """Carries payloads to outposts in this process; keeps every byte that went over the wire."""

    def __init__(self, outposts: Mapping[str, Outpost]) -> None:
        self.outposts = outposts
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.events: deque[Event] = deque(Came(site) for site in outposts)

    def send(self, site: str, data: Sequence[memoryview]) -> None:
        self.events.append(Sent(site))
        request = b"".join(data)
        answer = b"".join(self.outposts[site].answer(request))
        self.seen.append((site, request, answer))
        self.events.append(Answered(site, answer))

    def next(self, timeout_s: float) -> Event | None:
        return self.events.popleft() if self.events else None

    def close(self) -> None:
        for outpost in self.outposts.values():
            outpost.leave()


def hospital(run: Run, site: str, store: Path, **over: Any) -> Hospital:
    """SITE.yaml of one site of a run on one machine."""
    return Hospital(
        **{
            "site": site,
            "data": run.sites[site].data.model_dump(),
            "store": store,
            "cache": run.cache,
            "threads": 1,
            "policy": OPEN_POLICY,
            **over,
        }
    )


def outpost(hospital: Hospital, told: list[str] | None = None) -> Outpost:
    """The hospital's end as `polysite join` makes it."""
    tell = (lambda text: None) if told is None else told.append
    return Outpost(
        hospital.site,
        hospital.policy,
        Audit(hospital.store / "audit.jsonl"),
        open_run=opener(hospital),
        ended=lambda crew: seal_models(crew.run, crew.folder),
        emit=note,
        tell=tell,
    )


def across(raw: dict[str, Any], folder: Path, listener: Any = None) -> Loop:
    """A run across hospitals below a folder: the server in ``server``, each hospital in a folder of its name."""
    run = recipe.build(raw)
    loop = Loop({site: outpost(hospital(run, site, folder / site)) for site in run.sites})
    if not (folder / "server").exists():
        create_served(run, folder / "server")
    serve(folder / "server", lambda limits: loop, listeners=[listener] if listener else [])
    return loop


def states(digests: Mapping[str, str]) -> dict[str, str]:
    """Digests of the server's and the hospitals' files by where they would lie in the folder of one run."""
    found: dict[str, str] = {}
    for path, digest in digests.items():
        holder, _, inner = path.partition("/")
        place = inner if holder == "server" else inner.partition("/")[2]
        assert place not in found
        found[place] = digest
    return found
