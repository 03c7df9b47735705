"""The task's training loop as a method calls it: bound to a site's data, moments and seed of one round."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from polysite.algorithms.algorithm import MAIN
from polysite.algorithms.memory import within
from polysite.config import Training
from polysite.errors import PolysiteError
from polysite.federation.optimisers import moments as moments_of
from polysite.federation.optimisers import restore
from polysite.seeds import derive
from polysite.tasks.task import AfterStep, Effort, Guide, Pass, Penalty, Task, TrainingData, rate_factor

MOMENTS = "moments/"
"""Prefix in a site's memory of the moments of models other than the main one."""


class Fitting:
    """One site's ``fit`` for one round, and the losses of all its calls.

    Parameters
    ----------
    model, optimisers
        The site's main model, and what holds its moments.
    memory
        The site's; moments of other models lie here between rounds.
    seed : int
        The run's.
    """

    def __init__(
        self,
        task: Task,
        data: TrainingData,
        training: Training,
        *,
        site: str,
        round_: int,
        seed: int,
        model: nn.Module,
        optimisers: Mapping[str, Optimizer],
        memory: dict[str, Tensor],
    ) -> None:
        self._task, self._data, self._training = task, data, training
        self._site, self._round, self._seed = site, round_, seed
        self._model, self._optimisers, self._memory = model, optimisers, memory
        self._n_calls: Counter[str] = Counter()
        self._n_loops: Counter[str] = Counter()
        self.losses: dict[str, float] = {}
        """Mean losses: by the task's names, the second call's below ``fit2/``, a second model's below its own."""

    def __call__(
        self,
        model: nn.Module,
        *,
        penalty: Penalty | None = None,
        guide: Callable[[Any], Tensor | Mapping[str, Tensor]] | None = None,
        after_step: AfterStep | None = None,
        only: Collection[str] | None = None,
        moments: str | None = MAIN,
    ) -> None:
        """Train in place; see ``polysite.algorithms.algorithm.Fit``.

        The first call with each set of moments sees the same samples, so two models can be compared.
        """
        owner = moments or MAIN
        self._n_calls[owner] += 1
        optimisers = self._begin(model, moments)
        means, parts = Means(), Means()
        for _ in range(self._training.epochs_per_round):
            means.add(
                self._task.fit(
                    model,
                    self._data,
                    self._effort(owner),
                    optimisers,
                    penalty=penalty,
                    guide=guide and summed(guide, parts),
                    after_step=after_step,
                    only=only,
                )
            )
        if moments not in (MAIN, None):
            kept = moments_of(self._task.networks(model), optimisers)
            self._memory.update({f"{MOMENTS}{moments}/{name}": tensor for name, tensor in kept.items()})
        number = self._n_calls[owner]
        prefix = ("" if owner == MAIN else f"{owner}/") + ("" if number == 1 else f"fit{number}/")
        losses, told = means.result(), parts.result()
        if both := losses.keys() & told.keys():
            raise PolysiteError(f"a method calls a part of its guide {min(both)!r}, as the task calls a loss")
        self.losses |= {prefix + name: value for name, value in {**losses, **told}.items()}

    def _begin(self, model: nn.Module, moments: str | None) -> Mapping[str, Optimizer]:
        """Optimisers of the model with the moments that go on."""
        if moments == MAIN:
            if model is not self._model:
                raise PolysiteError(
                    f"{self._site}: another model than the site's is trained with the moments {MAIN!r}; "
                    "name a set of its own: fit(model, moments='personal')"
                )
            return self._optimisers
        optimisers = self._task.optimisers(model)
        if moments is not None:
            kept = within(self._memory, f"{MOMENTS}{moments}/")
            restore(self._task.networks(model), optimisers, kept)
        return optimisers

    def _effort(self, owner: str) -> Effort:
        training, number = self._training, self._n_loops[owner]
        self._n_loops[owner] += 1
        return Effort(
            n_steps=training.steps_per_round,
            batch_size=training.batch_size,
            rate_factor=rate_factor(
                self._round,
                rounds=training.rounds,
                flat_rounds=training.flat_rounds,
                end=training.schedule_end,
            ),
            seed=derive(self._seed, "fit", self._round, self._site, number),
        )


class Means:
    """Running means of named losses; nothing is read from a device before the end."""

    def __init__(self) -> None:
        self._sums: dict[str, float | Tensor] = {}
        self._counts: defaultdict[str, int] = defaultdict(int)

    def add(self, losses: Mapping[str, float | Tensor]) -> None:
        """Take one more value of each name."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] += 1

    def result(self) -> dict[str, float]:
        """Each name's mean."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}


def summed(guide: Callable[[Any], Tensor | Mapping[str, Tensor]], told: Means) -> Guide:
    """A guide that may name the parts of its loss as one that gives their sum; the parts go into ``told``."""

    def one(forward: Pass) -> Tensor:
        parts = guide(forward)
        if isinstance(parts, Tensor):
            return parts
        told.add({name: value.detach() for name, value in parts.items()})
        total, *others = parts.values()
        for part in others:
            total = total + part
        return total

    return one
