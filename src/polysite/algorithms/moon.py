"""MOON: features are drawn to those of the global model, and away from those of the site's previous one.

Li et al., "Model-contrastive federated learning", CVPR 2021, equation 3.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.algorithms.algorithm import Algorithm, Fit, Place
from polysite.algorithms.features import features
from polysite.algorithms.memory import copy_into, keep

PREVIOUS = "previous/"


class Moon(Algorithm):
    """Adds ``mu · -log(e^(s_g) / (e^(s_g) + e^(s_p)))`` to each site's loss.

    s_g and s_p are the cosines, divided by the temperature, of a sample's features now with those of the
    model as the round began (global) and as the site's last round ended (previous); in the first round both
    are one, and the term is log 2 without a gradient.
    """

    class Settings(Algorithm.Settings):
        """Settings of the contrast."""

        mu: float = Field(default=1.0, ge=0, description="of the contrast; 0 is federated averaging")
        temperature: float = Field(default=0.5, gt=0, description="divides the cosines")

    settings: "Moon.Settings"

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the contrast; keep the trained model for the next round."""
        mu, temperature = self.settings.mu, self.settings.temperature
        if mu == 0:
            return super().local(site, model, fit, news)
        arrived = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        previous = keep(site.memory, PREVIOUS, arrived)

        def guide(forward: Any) -> Mapping[str, Tensor]:
            now, then, before = (
                pooled(output) for output in (forward.output, forward.again(arrived), forward.again(previous))
            )
            return {"contrast": mu * contrast(now, then, before, temperature)}

        fit(model, guide=guide)
        copy_into(previous, model.state_dict())
        return self.outgoing(model)


def pooled(output: Any) -> Tensor:
    """Each sample's features, mean over space, branch after branch: (batch, channel)."""
    return torch.cat([part.float().flatten(2).mean(2) for part in features(output, "moon").values()], dim=1)


def contrast(now: Tensor, global_: Tensor, previous: Tensor, temperature: float) -> Tensor:
    """``-log(e^(s_g) / (e^(s_g) + e^(s_p)))``, mean over the batch.

    >>> near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> round(contrast(near, near, far, 0.5).item(), 4)  # log(1 + e^-2)
    0.1269
    """
    scores = torch.stack([F.cosine_similarity(now, other) for other in (global_, previous)], dim=1)
    return F.cross_entropy(scores / temperature, scores.new_zeros(len(scores), dtype=torch.int64))
