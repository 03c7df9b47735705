"""FedBN: federated averaging of all but the normalisation layers.

Li et al., "FedBN: Federated learning on non-IID features via local batch normalization", ICLR 2021, arXiv 2102.07623;
with statistics alone kept at home (SiloBN) it is ``fedavg`` with ``share_statistics: false``.
"""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from polysite.algorithms.algorithm import Algorithm

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


class FedBN(Algorithm):
    """Every layer that normalises, found by its type and never by its name, is the site's own."""

    def shared(self, model: nn.Module) -> set[str]:
        """Everything but the parameters and statistics of normalisation layers."""
        norms = {path for path, module in model.named_modules() if isinstance(module, NORMS)}
        return {name for name in super().shared(model) if name.rpartition(".")[0] not in norms}
