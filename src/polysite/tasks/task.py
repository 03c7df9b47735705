"""What every task offers: one training loop, prediction and its losses; nothing of federation."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

Penalty = Callable[[nn.Module], Tensor]
AfterStep = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Pass:
    """One forward pass of a training step, as a method may look at it."""

    output: Any
    """What the trained network gave, with gradients: the task's own kind."""
    again: Callable[[Mapping[str, Tensor]], Any]
    """The same network on the same samples with other values, by their names in ``model.state_dict()`` (the
    model's own where a name is missing): an output of the same kind, without gradients; the model stays as it is."""


Guide = Callable[[Pass], Tensor]


class TrainingData(Protocol):
    """A site's training samples as a task sees them."""

    @property
    def n_samples(self) -> int:
        """Training samples, the site's weight in a mean."""
        ...

    @property
    def n_members(self) -> int:
        """Sites in this data: 1, or more where data are pooled."""
        ...

    def batches(self, rng: np.random.Generator, n_steps: int | None, batch_size: int) -> Iterator[Any]:
        """Batches of one round; ``n_steps=None`` is one epoch."""
        ...


@dataclass(frozen=True)
class Effort:
    """How much and how fast to train in one round."""

    n_steps: int | None
    batch_size: int
    rate_factor: float
    """Multiplies the learning rate in this round, in [0, 1]."""
    seed: int
    n_epochs: int = 1
    """Passes over the data where ``n_steps`` is None."""


class Task(Protocol):
    """A kind of problem (synthesis, segmentation): builds a site's model, trains it and applies it."""

    gives_features: ClassVar[bool]
    """Whether a pass of the networks for this task gives features, which some methods compare."""

    def build(self, site: str | None, seed: int | None, device: str | None = None) -> nn.Module:
        """A site's model (``None``: one for all sites' data), initialised from a seed.

        ``device="meta"`` builds it without memory, for names and shapes only; default: the task's device.
        """
        ...

    def private(self) -> tuple[str, ...]:
        """Patterns of names that mean another thing at every site and therefore cannot leave it."""
        ...

    def networks(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The model's networks; each name is the prefix of its tensors in ``model.state_dict()``."""
        ...

    def optimisers(self, model: nn.Module) -> Mapping[str, Optimizer]:
        """Optimisers by network name."""
        ...

    def data(self, site: str, cases: Sequence[Any]) -> TrainingData:
        """A site's prepared cases as training samples."""
        ...

    def pool(self, members: Sequence[TrainingData]) -> TrainingData:
        """The samples of several sites as one, each keeping its own site's code."""
        ...

    def fit(
        self,
        model: nn.Module,
        data: TrainingData,
        effort: Effort,
        optimisers: Mapping[str, Optimizer],
        *,
        penalty: Penalty | None = None,
        guide: Guide | None = None,
        after_step: AfterStep | None = None,
        only: Collection[str] | None = None,
    ) -> dict[str, float]:
        """Train in place for one round; the mean losses by name.

        Parameters
        ----------
        penalty
            Added to the loss of the trained networks at every step (FedProx, SCAFFOLD, Ditto).
        guide
            A loss of the step's own forward pass, added as well (MOON, distillation from a teacher).
        after_step
            Called with the model after every optimiser step (a momentum teacher).
        only
            Names of the parameters to train; the others stay as they are (FedRep).
        """
        ...

    def validate(self, model: nn.Module, data: TrainingData, n_samples: int, seed: int) -> dict[str, float]:
        """Losses of the evaluated model on held-out samples; changes nothing."""
        ...


def rate_factor(round_: int, *, rounds: int, flat_rounds: int | None, end: str) -> float:
    """Learning-rate factor of a round counted from 0: flat, then linear.

    With ``end="positive"`` the last of ``n`` decaying rounds has 1/(n+1); with ``"zero"`` it has 0, as in the
    release of pFLSynth, whose last epoch therefore trains nothing.

    >>> [rate_factor(r, rounds=4, flat_rounds=2, end="zero") for r in range(4)]
    [1.0, 1.0, 0.5, 0.0]
    >>> round(rate_factor(3, rounds=4, flat_rounds=2, end="positive"), 4)
    0.3333
    """
    flat = rounds // 2 if flat_rounds is None else flat_rounds
    if round_ < flat or rounds <= flat:
        return 1.0
    n_decaying = rounds - flat
    step = round_ - flat + 1
    return 1.0 - step / (n_decaying if end == "zero" else n_decaying + 1)
