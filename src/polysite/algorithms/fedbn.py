"""FedBN: all but the normalisation layers is averaged.

Li et al., "FedBN: federated learning on non-IID features via local batch normalization", ICLR 2021.
"""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from polysite.algorithms.algorithm import Algorithm, of_modules
from polysite.errors import ConfigError

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""``_NormBase`` is what torch's batch and instance norms have in common."""


class FedBN(Algorithm):
    """Every site keeps scale, shift and statistics of its normalisation layers, whatever they are called."""

    def shared(self, model: nn.Module) -> set[str]:
        """All but the layers of these types."""
        own = of_modules(model, NORMS)
        if not own:
            raise ConfigError(
                "algorithm.name: 'fedbn' keeps normalisation layers at the site, and this network has none with "
                "values of its own: fedbn would be fedavg; choose another network or another algorithm"
            )
        return super().shared(model) - own
