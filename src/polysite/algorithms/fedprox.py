"""FedProx: federated averaging with a pull towards what arrived.

Li et al., "Federated optimization in heterogeneous networks", MLSys 2020, equation 2.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from polysite.algorithms.algorithm import Algorithm, Fit, Place
from polysite.algorithms.pull import pull


class FedProx(Algorithm):
    """Adds ``mu / 2 · ‖w − w_round‖²`` over the shared parameters to each site's loss."""

    class Settings(Algorithm.Settings):
        """Settings of the pull."""

        mu: float = Field(default=0.01, ge=0, description="strength of the pull; 0 is federated averaging")

    settings: "FedProx.Settings"

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train with the pull."""
        fit(model, penalty=pull(self.settings.mu, model, news))
        return self.outgoing(model)
