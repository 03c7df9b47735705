"""The server: rounds, aggregation, and the state that all sites start a round from."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from polysite.algorithms.algorithm import Message
from polysite.errors import CheckpointError
from polysite.federation.crew import Crew
from polysite.federation.sound import require_finite, require_sound
from polysite.federation.stages.exchange import unpack
from polysite.federation.tensor_files import TensorFile, write_tensors

Emit = Callable[[dict[str, Any]], None]


class Engine(Protocol):
    """A carrier: brings the server's state to the sites and their messages back, in the order of the sites."""

    def visit(self, round_: int, news: Mapping[str, Tensor], sites: Iterable[str]) -> Iterator[Message]:
        """Messages of one round, one after another, so that none has to be kept."""
        ...

    def close(self) -> None:
        """End whatever the engine started."""
        ...


def federate(crew: Crew, engine: Engine, emit: Emit) -> None:
    """Run all rounds that are not done yet, then write the final models.

    The server's version ``r`` is its state after ``r`` rounds. It is written after every site's, so a run that was
    stopped goes on from the server's last version: each site has that version, or already the next.
    """
    store, rounds = crew.server_store(), crew.run.training.rounds
    store.clean()
    for site in crew.sites.values():
        site.store.clean()
    done = store.versions()
    if done:
        tensors, facts = store.load(done[-1], verify=True)
        first, last = done[-1], last_versions(facts, crew, done[-1])
    else:
        tensors, first, last = crew.initial(), 0, dict.fromkeys(crew.plans, 0)
    state = TensorFile(tensors)  # what is kept is what is sent, and is hashed once
    for name, site in crew.sites.items():
        require_version(name, str(site.store.folder), site.store.versions(), first, least=last[name])
    if not done:
        crew.saver.submit(store, 0, state, {"last": dict(last)})
    for round_ in range(first, rounds):
        start = time.perf_counter()
        worked: list[float] = []
        messages = _checked(engine.visit(round_, state, crew.plans), crew, round_, state, worked, last, emit)
        state = TensorFile(crew.algorithm.aggregate(state, messages))
        for (
            _
        ) in messages:  # an algorithm that aggregates nothing leaves messages unread; the sites still work
            pass
        crew.saver.submit(store, round_ + 1, state, {"last": dict(last)})
        seconds = time.perf_counter() - start
        emit(
            {
                "event": "round",
                "round": round_,
                "seconds": seconds,
                "overhead_seconds": max(0.0, seconds - sum(worked)),
            }
        )
    crew.saver.wait()
    write_final(crew, state)


def write_final(crew: Crew, state: Mapping[str, Tensor]) -> None:
    """Write ``server/model.safetensors`` and every site's evaluated model beside its store."""
    write_tensors(crew.folder / "server" / "model.safetensors", state)
    for name in crew.sites:
        write_models(crew, name, state)


def write_models(crew: Crew, name: str, state: Mapping[str, Tensor]) -> list[Path]:
    """Write the evaluated models of a participant: a site's own, or every site's where data are pooled."""
    whole = crew.sites[name].final(crew.run.training.rounds, state)
    written = []
    for member in crew.run.sites if name not in crew.run.sites else [name]:
        own = crew.task.build(member, None, device="meta").state_dict()
        written.append(crew.folder / "sites" / member / "model.safetensors")
        write_tensors(written[-1], {key: whole[key] for key in own})
    return written


def last_versions(facts: Mapping[str, Any], crew: Crew, version: int) -> dict[str, int]:
    """Site -> the version that the last round gave in which it took part, from the facts of the server's version."""
    last = facts.get("last", {})
    return {name: last.get(name, version) for name in crew.plans}


def require_version(
    site: str, holder: str, versions: Sequence[int], round_: int, *, least: int | None = None
) -> None:
    """Refuse a round that a site's versions do not lead to.

    Parameters
    ----------
    holder : str
        Where the versions lie, for the message.
    least : int, optional
        The version that the last round gave in which the site took part; below ``round_`` if the others went on
        without it.

    Raises
    ------
    CheckpointError
        If they are neither those before the round, nor those after it, nor what a site that was left out holds.
    """
    least = round_ if least is None else least
    leads = any(least <= version <= round_ + 1 for version in versions)
    if not (leads or (least == 0 and not versions)):
        kept = ", ".join(f"round-{version:06d}" for version in versions) or "nothing"
        raise CheckpointError(
            f"{holder}: holds {kept} but the server is at round-{round_:06d}: a part of the run "
            f"was removed or put back, or the run was begun a second time; restore {site} and the server from one "
            "backup, or move away what both hold of this run to start anew"
        )


def _checked(
    messages: Iterable[Message],
    crew: Crew,
    round_: int,
    state: Mapping[str, Tensor],
    worked: list[float],
    last: dict[str, int],
    emit: Emit,
) -> Iterator[Message]:
    """Messages that keep to the share plan, each reported once, as what the sites' methods sent."""
    for message in messages:
        require_sound(message, crew.plans[message.site], round_)
        worked.append(message.facts["seconds"])
        last[message.site] = round_ + 1
        emit({"event": "site", "round": round_, "site": message.site, **message.facts})
        received = replace(message, tensors=unpack(crew.run.exchange, message.tensors, state))
        if not crew.run.exchange.plain:  # changes of one sign, round after round, can go beyond all floats
            require_finite(received, round_)
        yield received
