"""Ditto: a global model as in FedAvg, and at every site a personal one that is pulled towards it.

Li et al., "Ditto: Fair and robust federated learning through personalization", ICML 2021, arXiv 2012.04221,
algorithm 1.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from polysite.algorithms.algorithm import Algorithm, Fit, Place
from polysite.algorithms.proximal import proximal

PERSONAL = "personal/"


class Ditto(Algorithm):
    """The personal model v minimises the site's loss + ``λ/2 ‖v - w_round‖²``; it is the one that predicts.

    It starts as what arrived first, has optimiser moments of its own, and never leaves the site. Each round
    trains both, which takes twice the time. ``λ = 0``: the personal model is trained alone.
    """

    class Settings(Algorithm.Settings):
        """Settings of Ditto."""

        lam: float = Field(
            default=0.1, ge=0, description="λ, the pull of the personal model to the global one"
        )

    settings: "Ditto.Settings"

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train the global model, then the personal one in its place."""
        state = model.state_dict()
        personal = {name: site.memory.get(PERSONAL + name, tensor).clone() for name, tensor in state.items()}
        fit(model)
        trained = {name: tensor.clone() for name, tensor in state.items()}
        _become(state, personal)
        lam = self.settings.lam
        fit(model, penalty=proximal(model, news, lam) if lam else None, moments="personal")
        site.memory.update({PERSONAL + name: tensor.clone() for name, tensor in state.items()})
        _become(state, trained)
        return self.sent(model)

    def evaluated(self, memory: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The personal model, once there is one."""
        return {name: memory.get(PERSONAL + name, tensor) for name, tensor in model.items()}


@torch.no_grad()
def _become(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give a model, by its ``state_dict()``, other values."""
    for name, tensor in state.items():
        tensor.copy_(values[name])
