"""FedProx: federated averaging whose sites stay near what they were sent.

Li et al., "Federated optimization in heterogeneous networks", MLSys 2020, arXiv 1812.06127, equation 2.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from polysite.algorithms.algorithm import Algorithm, Fit, Place
from polysite.algorithms.proximal import proximal


class FedProx(Algorithm):
    """``μ/2 ‖w - w_round‖²`` is added to every site's loss; ``μ = 0`` is FedAvg, bit for bit."""

    class Settings(Algorithm.Settings):
        """Settings of FedProx."""

        mu: float = Field(default=0.01, ge=0, description="weight of the pull towards what arrived")

    settings: "FedProx.Settings"

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the penalty."""
        mu = self.settings.mu
        fit(model, penalty=proximal(model, news, mu) if mu else None)
        return self.sent(model)
