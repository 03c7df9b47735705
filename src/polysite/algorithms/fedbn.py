"""FedBN: federated averaging of all but the normalisation layers.

Li et al., "FedBN: Federated learning on non-IID features via local batch normalization", ICLR 2021, arXiv 2102.07623;
with statistics alone kept at home (SiloBN) it is ``fedavg`` with ``share_statistics: false``.
"""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from polysite.algorithms.algorithm import Algorithm, of_modules
from polysite.errors import ConfigError

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""``_NormBase`` is what torch's batch and instance norms have in common."""


class FedBN(Algorithm):
    """Every layer that normalises, found by its type and never by its name, is the site's own."""

    def shared(self, model: nn.Module) -> set[str]:
        """Everything but the parameters and statistics of normalisation layers."""
        own = of_modules(model, NORMS)
        if not own:
            raise ConfigError(
                "algorithm.name: 'fedbn' keeps normalisation layers at the site, and this network has none with "
                "values of its own: fedbn would be fedavg; choose another network or another algorithm"
            )
        return super().shared(model) - own
