"""Ditto: federated averaging, and beside it a personal model that is pulled to the global one.

Li et al., "Ditto: fair and robust federated learning through personalization", ICML 2021, algorithm 1.
"""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from polysite.algorithms.algorithm import Algorithm, Fit, Place
from polysite.algorithms.memory import copy_into, holding, keep, within
from polysite.algorithms.pull import pull

PERSONAL = "personal/"


class Ditto(Algorithm):
    """The global model is FedAvg's; each site evaluates a model v of its own, trained on
    ``loss(v) + pull / 2 · ‖v − w‖²`` with w as it arrived and with optimiser moments of its own.

    v is a whole model: what does not travel (a discriminator, a head) it has a second time. Without a pull it
    is what the site would learn alone.
    """

    class Settings(Algorithm.Settings):
        """Settings of the personal model."""

        pull: float = Field(
            default=0.1, ge=0, description="lambda, towards the global model; 0: the site learns alone"
        )

    settings: "Ditto.Settings"

    def local(
        self, site: Place, model: nn.Module, fit: Fit, news: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Train the global model, then the personal one in its place."""
        personal = keep(site.memory, PERSONAL, model.state_dict())
        message = super().local(site, model, fit, news)
        with holding(model, personal):
            fit(model, penalty=pull(self.settings.pull, model, news), moments="personal")
            copy_into(personal, model.state_dict())
        return message

    def evaluated(self, memory: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The personal model, once there is one."""
        return within(memory, PERSONAL) or state
