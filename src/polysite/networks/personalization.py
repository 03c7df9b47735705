"""Personalization block: a site and a task normalise and weigh the feature maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polysite.networks.equalized import EqualizedLinear

EPS = 1e-5
ATTENTION_REDUCTION = 8


def modulate(x: Tensor, gamma: Tensor, beta: Tensor, attention: Tensor) -> Tensor:
    """``R ⊙ ((1 + γ) x̂ + β)`` with x̂ the instance-normalised x (eps 1e-5), in one call.

    Every channel of every sample is a channel of its own in a batch of one, so batch norm computes the
    instance norm, and its affine parameters are ``(1 + γ) R`` and ``β R``: one pass over the feature map
    and one back, two to three times as fast as the formula term by term.

    Parameters
    ----------
    x : Tensor
        (batch, channel, x, y).
    gamma, beta, attention : Tensor
        (batch, channel): γ, β and R.
    """
    batch, channels = x.shape[:2]
    weight = ((1 + gamma) * attention).reshape(-1)
    bias = (beta * attention).reshape(-1)
    flat = x.reshape(1, batch * channels, *x.shape[2:])
    return F.batch_norm(flat, None, None, weight, bias, training=True, eps=EPS).reshape(x.shape)


class PersonalizationBlock(nn.Module):
    """Site-task instance normalisation (STIN), then site-task channel attention (STCA).

    ``[γ | β] = A w + b``, ``R = sigmoid(W2 ReLU(W1 w))``; neither looks at the features.

    Parameters
    ----------
    channels : int
        Of the feature maps; the attention's inner width is an eighth of it, at least 1.
    latent : int
        Length of w.

    References
    ----------
    Dalmaz et al., "One model to unite them all", Medical Image Analysis 94:103121 (2024), section 3.2.
    """

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        inner = max(1, channels // ATTENTION_REDUCTION)
        self.stin = EqualizedLinear(latent, 2 * channels)
        self.squeeze = nn.Linear(latent, inner, bias=False)
        self.excite = nn.Linear(inner, channels, bias=False)

    def constants(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """γ, β and R, each (batch, channel), from the latent (batch, latent)."""
        gamma, beta = self.stin(latent).chunk(2, dim=1)
        attention = torch.sigmoid(self.excite(F.relu(self.squeeze(latent))))
        return gamma, beta, attention

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Feature maps (batch, channel, x, y), driven by the latents (batch, latent)."""
        with torch.autocast(x.device.type, enabled=False):
            return modulate(x, *self.constants(latent))
