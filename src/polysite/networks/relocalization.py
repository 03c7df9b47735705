"""Re-localization: a site's features take from the federation's features what fits the site."""

from typing import Literal

import torch
from torch import Tensor, nn

from polysite.networks.attention import Attention
from polysite.networks.volume_conv import VolumeConv
from polysite.networks.volume_stages import N_GROUPS

CrossRoles = Literal["local_query", "global_query"]


class Relocalization(nn.Module):
    """Self-attention on local features L, then cross-attention with global features G.

    ``S0 = GN(SA(L) + L)``, ``S = GN(S0 + conv(S0))``; ``X0 = GN(CA(S, G) + S)``, ``X = GN(X0 + conv(X0))``.
    One group norm serves all four places, as in the authors' code.

    Parameters
    ----------
    channels : int
        Of L and of G; a multiple of 4.
    cross_roles : {"local_query", "global_query"}
        ``local_query``: S asks, G answers with keys and values (what the paper intends). ``global_query``:
        G asks and S answers (what the authors' code computes): G weighs, but is never passed on.

    References
    ----------
    Qi et al., "Contrastive re-localization and history distillation in federated CMR segmentation",
    MICCAI 2022, section 2.1.
    """

    def __init__(self, channels: int, cross_roles: CrossRoles) -> None:
        super().__init__()
        self.cross_roles = cross_roles
        self.norm = nn.GroupNorm(N_GROUPS, channels)
        self.self_attention = Attention(channels)
        self.self_conv = VolumeConv(channels, channels, (3, 3, 3))
        self.cross_attention = Attention(channels)
        self.cross_conv = VolumeConv(channels, channels, (3, 3, 3))

    def forward(self, local_features: Tensor, global_features: Tensor) -> Tensor:
        """``[S, X]``, (batch, 2 · channel, z, x, y), from two (batch, channel, z, x, y)."""
        s = self.norm(self.self_attention(local_features, local_features) + local_features)
        s = self.norm(s + self.self_conv(s))
        asks, answers = (s, global_features) if self.cross_roles == "local_query" else (global_features, s)
        x = self.norm(self.cross_attention(asks, answers) + s)
        x = self.norm(x + self.cross_conv(x))
        return torch.cat([s, x], dim=1)
