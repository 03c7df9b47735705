"""One site's round: its state in, what arrived on top, the algorithm's local work, its state out."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polysite.algorithms.algorithm import Algorithm, Message, Place
from polysite.config.training import Training
from polysite.errors import CheckpointError, PolysiteError
from polysite.federation.memory import Memory
from polysite.federation.optimisers import moments, other_moments, restore
from polysite.federation.parts import Parts
from polysite.federation.saver import Saver
from polysite.federation.share import SitePlan
from polysite.federation.sound import require_planned
from polysite.federation.stages.exchange import pack
from polysite.federation.store import Store
from polysite.federation.tensor_files import TensorFile, n_bytes
from polysite.seeds import derive
from polysite.tasks.task import AfterStep, Effort, Penalty, Task, TrainingData, rate_factor
from polysite.threads import one_thread


@dataclass
class Slot:
    """One model object with its optimisers, which the sites of one architecture use in turn."""

    model: nn.Module
    networks: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer]
    initial: Mapping[str, Tensor]
    memory: dict[str, Tensor] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)
    """What the last message lost by rounding; apart from the memory, so that no method can touch it."""
    outboxes: Memory = field(default_factory=Memory)
    """For what leaves."""
    holder: tuple[str, int] | None = None
    """Site and version whose state the slot holds now."""


@dataclass
class Site:
    """A hospital as the federation sees it.

    Parameters
    ----------
    slot : callable
        Gives the model object of this site's architecture.
    own_start : callable or None
        Gives this site's own initial state, where sites do not start from a common one.
    """

    name: str
    task: Task
    algorithm: Algorithm
    training: Training
    seed: int
    plan: SitePlan
    data: TrainingData
    validation: TrainingData | None
    store: Store
    saver: Saver
    slot: Callable[[], Slot]
    own_start: Callable[[], Mapping[str, Tensor]] | None = None
    trusted: set[int] = field(default_factory=set)
    """Versions that this process has written, or compared with their digest."""

    def work(self, round_: int, news: Mapping[str, Tensor]) -> Message:
        """Do one round and keep the result; a round that is already kept is not done again.

        Parameters
        ----------
        round_ : int
            From 0; the site's version ``round_`` is read and ``round_ + 1`` written. Where the others went on
            without this site, it begins from its last version.
        news : mapping of str to Tensor
            What the server holds; of it, the names that this site shares.
        """
        if round_ + 1 in self.store.versions():
            sent, facts = self.store.load_outbox(round_ + 1, verify=round_ + 1 not in self.trusted)
            self.trusted.add(round_ + 1)
            return Message(self.name, sent, facts["n_samples"], facts)
        start = time.perf_counter()
        with one_thread():
            slot = self._enter(self._newest(round_))
            arrived = self._arriving(news)
            if round_ > 0 or self.own_start is None:
                _fill(slot.model, arrived, self.name)
        entered = time.perf_counter()
        self.saver.resume()
        facts = self._validate(slot, round_)
        fit, losses = self._fit(slot, round_)
        place = Place(self.name, round_, derive(self.seed, "place", round_, self.name), slot.memory)
        message = self.algorithm.local(place, slot.model, fit, arrived)
        undeclared = set(message) - set(self.plan.shared)
        if undeclared:
            raise PolysiteError(
                f"{self.name}: {sorted(undeclared)[0]!r} would leave the site but is not in its share plan"
            )
        worked = time.perf_counter()
        self.saver.pause()
        with one_thread():
            outbox = TensorFile(self._packed(slot, message, arrived, facts))
            facts |= {
                "losses": losses,
                "n_samples": self.data.n_samples,
                "bytes_in": self.plan.bytes_down,
                "bytes_out": n_bytes(outbox.values()),
                "seconds": worked - entered,
            }
            self._leave(slot, round_ + 1, outbox, facts)
        facts["carried_seconds"] = time.perf_counter() - worked + entered - start
        return Message(self.name, outbox, self.data.n_samples, facts)

    def final(self, version: int, server: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The site's evaluated model: its private part and the server's shared part, unless the method has another."""
        version = self._newest(version)
        if version == 0:  # it took part in no round
            return {**(self.own_start() if self.own_start else self.slot().initial), **self._arriving(server)}
        private, _ = self._load(version, "private/")
        shared = {name: server[name] for name in self.plan.shared}
        whole = {**private, **shared}
        missing = (set(self.plan.shared) | set(self.plan.private)) - set(whole)
        if missing:
            raise CheckpointError(f"{self.store.path(version)}: lacks {sorted(missing)[0]!r}")
        memory, _ = self._load(version, "memory/")
        return dict(self.algorithm.evaluated(memory, whole))

    def _packed(
        self, slot: Slot, message: Mapping[str, Tensor], arrived: Mapping[str, Tensor], facts: dict[str, Any]
    ) -> dict[str, Tensor]:
        """What leaves for a message: tensors of their own on the CPU; what rounding lost goes into the slot."""
        sent = slot.outboxes.copied(message)
        require_planned(sent, self.plan.shared, self.name)
        packed = pack(self.plan.exchange, sent, arrived, slot.residual)
        slot.residual = packed.residual
        if packed.norm is not None:
            facts["change_norm"] = packed.norm
        return packed.tensors

    def _newest(self, version: int) -> int:
        """The last version up to one; 0 for the beginning."""
        kept = {*self.store.versions(), *self.trusted}  # one that was just left is still being written
        return max((number for number in kept if number <= version), default=0)

    def _load(self, version: int, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A version from disk, compared with its digest the first time that this process reads it."""
        loaded = self.store.load(version, prefix=prefix, verify=version not in self.trusted)
        self.trusted.add(version)
        return loaded

    def _enter(self, version: int) -> Slot:
        """The slot with this site's private state, moments and memory of a version."""
        slot = self.slot()
        holder, slot.holder = slot.holder, None  # until the round is done, nobody's state
        if holder == (self.name, version):
            return slot
        if version == 0:
            _fill(slot.model, self.own_start() if self.own_start else slot.initial, self.name)
            restore(slot.networks, slot.optimisers, {})
            slot.memory.clear()
            slot.residual = {}
            return slot
        kept = self.saver.kept(self.store, version)
        parts: dict[str, dict[str, Tensor]] = {"private": {}, "optimiser": {}, "memory": {}, "residual": {}}
        for full, tensor in (self._read(slot, version) if kept is None else kept).items():
            part, _, name = full.partition("/")
            parts[part][name] = tensor
        _fill(slot.model, parts["private"], self.name)
        restore(slot.networks, slot.optimisers, parts["optimiser"])
        slot.memory.clear()
        slot.memory.update(
            (name, tensor if kept is None else tensor.clone()) for name, tensor in parts["memory"].items()
        )
        slot.residual = parts["residual"]  # only read: the round makes another
        return slot

    def _read(self, slot: Slot, version: int) -> dict[str, Tensor]:
        """A version from disk, read into the slot's own tensors where it can be."""
        self.saver.wait_for(self.store)
        tensors, _ = self.store.load_in_place(version, self._kept(slot), verify=version not in self.trusted)
        self.trusted.add(version)
        return tensors

    def _leave(self, slot: Slot, version: int, outbox: TensorFile, facts: Mapping[str, Any]) -> None:
        """Keep the site's state as a version."""
        state = slot.model.state_dict()
        models = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
        for name, tensor in slot.memory.items():  # memory that were the model would change with it
            aliased = tensor.untyped_storage().data_ptr() in models
            slot.memory[name] = tensor.detach().clone() if aliased else tensor.detach()
        tensors = {
            **self._kept(slot),
            **{f"memory/{name}": tensor for name, tensor in slot.memory.items()},
        }
        lost = {f"residual/{name}": tensor for name, tensor in slot.residual.items()}
        self.saver.save(self.store, version, {**tensors, **lost}, facts, outbox)
        self.trusted.add(version)
        slot.holder = (self.name, version)

    def _kept(self, slot: Slot) -> dict[str, Tensor]:
        """The slot's own tensors that are this site's between rounds, by their names in its store."""
        state = slot.model.state_dict()
        own = moments(slot.networks, slot.optimisers)
        return {
            **{f"private/{name}": state[name] for name in self.plan.private},
            **{f"optimiser/{name}": tensor for name, tensor in own.items()},
        }

    def _arriving(self, news: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of the server's state comes to this site: exactly the names of its plan."""
        missing = set(self.plan.shared) - set(news)
        if missing:
            raise PolysiteError(f"{self.name}: the server did not send {sorted(missing)[0]!r}")
        return {name: news[name] for name in self.plan.shared}

    def _validate(self, slot: Slot, round_: int) -> dict[str, Any]:
        """Losses on held-out data of the model that would be evaluated now."""
        every = self.training.validate_every
        if self.validation is None or every == 0 or round_ % every:
            return {"validation": None}
        seed = derive(self.seed, "validation", self.name)
        state = slot.model.state_dict()
        evaluated = self.algorithm.evaluated(slot.memory, state)
        others = {name: tensor for name, tensor in evaluated.items() if tensor is not state[name]}
        own = {name: state[name].clone() for name in others}
        _fill(slot.model, others, self.name)
        losses = self.task.validate(slot.model, self.validation, self.training.validation_slices, seed)
        _fill(slot.model, own, self.name)
        return {"validation": losses}

    def _fit(self, slot: Slot, round_: int) -> tuple[Any, dict[str, float]]:
        """The task's loop bound to this site and round, and the dictionary that its losses go to."""
        losses: dict[str, float] = {}
        training, numbers = self.training, Counter[str | None]()

        def fit(
            model: nn.Module,
            *,
            penalty: Penalty | None = None,
            guide: Callable[[Any], Tensor | Mapping[str, Tensor]] | None = None,
            after_step: AfterStep | None = None,
            only: Collection[str] | None = None,
            moments: str | None = None,
        ) -> None:
            number, parts = numbers[moments], Parts()  # a second model sees the samples of the first
            numbers[moments] += 1
            effort = Effort(
                n_steps=training.steps_per_round,
                n_epochs=training.epochs_per_round,
                batch_size=training.batch_size,
                rate_factor=rate_factor(
                    round_,
                    rounds=training.rounds,
                    flat_rounds=training.flat_rounds,
                    end=training.schedule_end,
                ),
                seed=derive(self.seed, "fit", round_, self.name, number),
            )
            with (
                other_moments(slot.networks, slot.optimisers, slot.memory, moments)
                if moments
                else nullcontext()
            ):
                found = self.task.fit(
                    model,
                    self.data,
                    effort,
                    slot.optimisers,
                    penalty=penalty,
                    guide=parts.of(guide) if guide else None,
                    after_step=after_step,
                    only=only,
                )
            if both := found.keys() & parts.means().keys():
                raise PolysiteError(
                    f"the method calls a part of its guide {min(both)!r}, as the task calls a loss"
                )
            for name, value in {**found, **parts.means()}.items():
                name = f"{moments}_{name}" if moments else name
                losses[f"{name}_{number + 1}" if number else name] = value

        return fit, losses


@torch.no_grad()
def _fill(model: nn.Module, values: Mapping[str, Tensor], site: str) -> None:
    """Copy values into the model's state by name, never changing a dtype or shape."""
    state = model.state_dict()
    for name, value in values.items():
        if name not in state or state[name].shape != value.shape or state[name].dtype != value.dtype:
            has = (
                f"{tuple(state[name].shape)} {state[name].dtype}" if name in state else "nothing of that name"
            )
            raise PolysiteError(
                f"{site}: cannot take {name!r} {tuple(value.shape)} {value.dtype}: the site's model has {has}"
            )
        if state[name].data_ptr() != value.data_ptr():
            state[name].copy_(value)
