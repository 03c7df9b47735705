"""The optimiser that the networks are trained with, and what keeps a step from needless work."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim import Adam


def adam(parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float]) -> Adam:
    """Adam that updates all parameters in one fused pass over the memory, on CPU and CUDA."""
    return Adam(list(parameters), lr=learning_rate, betas=betas, fused=True)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients of a network's parameters inside; gradients still flow through to its inputs.

    For the generator's step: the discriminator judges, but learns nothing. Parameters that were frozen
    before stay so.
    """
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
