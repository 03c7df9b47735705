"""The training loop of every task: one round, one optimiser step after another."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polysite.config.training import Training
from polysite.tasks.ahead import ahead
from polysite.tasks.task import AfterStep, Effort, TrainingData


def train(
    model: nn.Module,
    batches: Iterable[Any],
    optimisers: Mapping[str, Optimizer],
    step: Callable[[Any], Mapping[str, Tensor]],
    *,
    learning_rate: float,
    after_step: AfterStep | None = None,
    only: Collection[str] | None = None,
) -> dict[str, float]:
    """Train in place; the mean of every loss that the steps gave.

    Parameters
    ----------
    step : callable
        Takes a batch, moves the optimisers and gives the losses by name, detached; what a step does not name
        counts as absent, not as 0.
    learning_rate : float
        Of all optimisers in this round.
    after_step, only
        See ``polysite.tasks.task.Task.fit``.
    """
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(only is None or name in only)
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
    sums: dict[str, Tensor] = {}
    counts: defaultdict[str, int] = defaultdict(int)
    with closing(ahead(batches)) as coming:
        for batch in coming:
            for name, value in step(batch).items():
                sums[name] = sums[name] + value if name in sums else value
                counts[name] += 1
            if after_step is not None:
                after_step(model)
    model.requires_grad_(True)
    return {name: float(value) / counts[name] for name, value in sums.items()}


def adam(networks: Mapping[str, nn.Module], training: Training) -> dict[str, Optimizer]:
    """An optimiser for every network."""
    return {
        name: torch.optim.Adam(
            network.parameters(), lr=training.learning_rate, betas=training.betas, fused=True
        )
        for name, network in networks.items()
    }


def precision(device: torch.device, training: Training) -> torch.autocast:
    """Where a network is called: bfloat16 if the run says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=training.precision == "bfloat16")


def batches_of(data: TrainingData, effort: Effort, rng: np.random.Generator) -> Iterator[Any]:
    """The batches of one round: so many steps, or whole epochs."""
    for _ in range(1 if effort.n_steps is not None else effort.n_epochs):
        yield from data.batches(rng, effort.n_steps, effort.batch_size)


def descend(loss: Tensor, optimisers: Iterable[Optimizer]) -> None:
    """One step of the optimisers on a loss; none where nothing that the loss depends on is trained."""
    if not loss.requires_grad:
        return
    optimisers = list(optimisers)
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for optimiser in optimisers:
        optimiser.step()


def shadow(model: nn.Module, values: Mapping[str, Tensor], network: str, inputs: tuple[Any, ...]) -> Any:
    """What one network of a model gives with other values: in training mode, without gradients.

    Parameters
    ----------
    values : mapping of str to Tensor
        By names of ``model.state_dict()``; a name that is missing keeps the model's own value. Buffers that a
        pass changes (batch-norm statistics) are changed in copies.
    network : str
        The network's name, the prefix of its tensors.
    """
    prefix = f"{network}."
    module = model.get_submodule(network)
    own = {name: buffer.clone() for name, buffer in module.named_buffers()}
    other = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    other = {name: value.clone() if name in own else value for name, value in other.items()}
    with torch.no_grad():
        return torch.func.functional_call(module, {**own, **other}, inputs)
