"""The pull towards what the server sent: the penalty of FedProx and of Ditto."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def proximal(model: nn.Module, news: Mapping[str, Tensor], weight: float) -> Callable[[nn.Module], Tensor]:
    """``weight / 2 · ‖w - news‖²`` over the trained parameters that arrived; its gradient is ``weight (w - news)``.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> penalty = proximal(model, {"weight": model.weight.detach() - 2.0}, 0.5)
    >>> round(penalty(model).item(), 4)
    1.0
    """
    centre = {
        name: news[name].to(parameter.device) for name, parameter in model.named_parameters() if name in news
    }

    def penalty(model: nn.Module) -> Tensor:
        squares = [
            (parameter - centre[name]).square().sum()
            for name, parameter in model.named_parameters()
            if name in centre and parameter.requires_grad
        ]
        return weight / 2 * torch.stack(squares).sum() if squares else torch.zeros(())

    return penalty
