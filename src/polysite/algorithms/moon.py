"""MOON: a site's features stay near those of the global model and leave those of its own last one.

Li, He, Song, "Model-contrastive federated learning", CVPR 2021, arXiv 2103.16257, equations 3 and 4.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.algorithms.algorithm import Algorithm, Fit, Place
from polysite.algorithms.features import features_of, pooled

PREVIOUS = "previous/"


class Moon(Algorithm):
    """``-μ log (e^{s_g/τ} / (e^{s_g/τ} + e^{s_p/τ}))`` with the cosines to the global (g) and the previous (p) model.

    The first round has no previous model and is FedAvg's; ``μ = 0`` is FedAvg, bit for bit.
    """

    class Settings(Algorithm.Settings):
        """Settings of MOON."""

        mu: float = Field(default=1.0, ge=0, description="weight of the contrastive loss")
        temperature: float = Field(default=0.5, gt=0, description="τ of the contrastive loss")

    compares_features = True
    settings: "Moon.Settings"

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the contrastive loss, then remember the model."""
        if not self.settings.mu:
            return super().local(site, model, fit, news)
        state = model.state_dict()
        devices = {name: tensor.device for name, tensor in state.items()}
        previous = {
            name.removeprefix(PREVIOUS): tensor.to(devices[name.removeprefix(PREVIOUS)])
            for name, tensor in site.memory.items()
            if name.startswith(PREVIOUS)
        }
        received = {name: tensor.clone() for name, tensor in state.items()}
        fit(model, guide=self._contrast(received, previous) if previous else _nothing)
        site.memory.update({PREVIOUS + name: tensor.clone() for name, tensor in state.items()})
        return self.sent(model)

    def _contrast(
        self, received: Mapping[str, Tensor], previous: Mapping[str, Tensor]
    ) -> Callable[[Any], Mapping[str, Tensor]]:
        def guide(seen: Any) -> Mapping[str, Tensor]:
            own, near, far = (
                pooled(features_of(output, "moon"))
                for output in (seen.output, seen.again(received), seen.again(previous))
            )
            loss = model_contrast(own, near, far, self.settings.temperature)
            return {"contrast": self.settings.mu * loss}

        return guide


def _nothing(seen: Any) -> Tensor:
    """No loss; but a network without features is refused at the first step, not after a round."""
    return pooled(features_of(seen.output, "moon")).new_zeros(())


def model_contrast(own: Tensor, near: Tensor, far: Tensor, temperature: float) -> Tensor:
    """Equation 3, mean over the batch; all are (batch, channel). log 2 where both are equally near."""
    cosines = torch.stack([F.cosine_similarity(own, near), F.cosine_similarity(own, far)], dim=1)
    return F.cross_entropy(cosines / temperature, torch.zeros(len(own), dtype=torch.int64, device=own.device))
