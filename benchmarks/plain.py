"""The generator written down literally, with torch's own layers: the yardstick of speed and of equality."""

import torch
from torch import Tensor
from torch.nn import functional as F

from polysite.networks.generator import Generator
from polysite.networks.personalization import PersonalizationBlock
from polysite.networks.stages import ResidualBlock


class PlainGenerator(Generator):
    """Same parameters, names and settings as ``Generator``; no fused, folded or rearranged computation."""

    def forward(
        self, source: Tensor, site: Tensor, source_contrast: Tensor, target_contrast: Tensor
    ) -> Tensor:
        """As ``Generator.forward``."""
        latent = self.latent(site, source_contrast, target_contrast)
        x = source
        for name in self.stages:
            stage = self.get_submodule(name)
            x = self._residual(stage, x) if isinstance(stage, ResidualBlock) else _stage(stage, x)
            if latent is not None:
                x = _personalise(self.personalization[name], x, latent)
        return torch.tanh(self.out.conv(_reflect(x, 3)))

    def _residual(self, block: ResidualBlock, x: Tensor) -> Tensor:
        y = F.relu(block.norm1(block.conv1(_reflect(x, 1))))
        y = F.dropout(y, self.settings.dropout, self.training)
        return x + block.norm2(block.conv2(_reflect(y, 1)))


def _reflect(x: Tensor, pad: int) -> Tensor:
    return F.pad(x, (pad, pad, pad, pad), mode="reflect")


def _stage(stage: torch.nn.Module, x: Tensor) -> Tensor:
    return F.relu(stage.norm(stage.conv(_reflect(x, stage.pad) if stage.pad else x)))


def _personalise(block: PersonalizationBlock, x: Tensor, latent: Tensor) -> Tensor:
    gamma, beta = block.stin(latent)[:, :, None, None].chunk(2, dim=1)
    attention = torch.sigmoid(block.excite(F.relu(block.squeeze(latent))))[:, :, None, None]
    return attention * ((1 + gamma) * F.instance_norm(x, eps=1e-5) + beta)
