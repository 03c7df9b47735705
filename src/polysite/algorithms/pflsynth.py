"""pFLSynth: later generator layers are averaged, everything else is the site's own.

Dalmaz et al., "One model to unite them all: Personalized federated learning of multi-contrast MRI
synthesis", Medical Image Analysis 94:103121 (2024), arXiv 2207.06509.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from polysite.algorithms.algorithm import Algorithm, matching, statistics
from polysite.errors import ConfigError


class PFLSynth(Algorithm):
    """Partial network aggregation: the last four of nine residual blocks, the up-sampling, the output and the mapper.

    ``faithful`` is the paper's description; ``repaired`` keeps batch-norm statistics at the site, where
    they describe that site's images, and never trains a round with learning rate zero.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "repaired": {
            "algorithm": {"share_statistics": False},
            "training": {"schedule_end": "positive"},
        },
        "faithful": {
            "network": {
                "name": "pflsynth",
                "width": 64,
                "n_blocks": 9,
                "latent": 512,
                "mapper_depth": 6,
                "dropout": 0.5,
                "norm": "batch",
                "conditioning": "latent",
                "initialisation": "intended",
            },
            "algorithm": {"share_statistics": True},
            "training": {
                "rounds": 150,
                "batch_size": 1,
                "learning_rate": 2e-4,
                "betas": [0.5, 0.999],
                "schedule_end": "zero",
            },
        },
    }

    class Settings(Algorithm.Settings):
        """Settings of partial aggregation."""

        shared: tuple[str, ...] | None = Field(
            default=None,
            description="patterns of names that are averaged (the split point); default: as in the paper",
        )

    settings: "PFLSynth.Settings"

    def shared(self, model: nn.Module) -> set[str]:
        """Names that match the split point's patterns."""
        patterns = self.settings.shared
        names = matching(model, paper_split(model) if patterns is None else patterns)
        if not names:
            raise ConfigError(
                f"algorithm.shared: no tensor of the network matches {', '.join(patterns or ())!r}; "
                "see the names with `polysite plan --json`"
            )
        names -= matching(model, self.settings.private)
        return names if self.settings.share_statistics else names - statistics(model)


def paper_split(model: nn.Module) -> tuple[str, ...]:
    """The paper's split point for any depth: the last 4/9 of the residual blocks and all that follows."""
    blocks = sorted(
        {int(m[1]) for name in model.state_dict() if (m := re.match(r"generator\.res(\d+)\.", name))}
    )
    if not blocks:
        raise ConfigError(
            "algorithm.shared: this network has no residual blocks generator.res1, res2, …; "
            "say in algorithm.shared which names are averaged, or choose another algorithm, as fedavg"
        )
    n_shared = max(1, round(len(blocks) * 4 / 9))
    later = tuple(f"generator.res{block}.*" for block in blocks[-n_shared:])
    return (*later, "generator.up1.*", "generator.up2.*", "generator.out.*", "generator.mapper.*")
