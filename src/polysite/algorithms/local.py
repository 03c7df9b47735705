"""Every site alone: nothing leaves."""

from torch import nn

from polysite.algorithms.algorithm import Algorithm


class Local(Algorithm):
    """One model a site, trained on that site's data only: what a federation has to beat."""

    def shared(self, model: nn.Module) -> set[str]:
        """Nothing."""
        return set()
