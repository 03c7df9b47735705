"""The personalised generator: a ResNet with a personalization block after each stage."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polysite.config.base import Section
from polysite.networks.mapper import Mapper, one_hot_codes
from polysite.networks.norm import NormKind
from polysite.networks.personalization import PersonalizationBlock
from polysite.networks.stages import OutStage, ResidualBlock, Stage

GRID = 4
MIN_SIZE = 8


class Generator(nn.Module):
    """Source slice and codes in, target slice out: one model, personalised for each site and task.

    The stages are ``enc1`` to ``enc3``, ``res1`` to ``resN``, ``up1``, ``up2`` and ``out``; each but the last
    is followed by its block ``personalization.<stage>``, all driven by the latent of the one ``mapper``.
    With ``conditioning: none`` there is neither mapper nor block: a plain ResNet generator.

    Parameters
    ----------
    settings : Generator.Settings
        Widths, depths and kinds of layers.
    n_sites, n_contrasts : int
        How many of each the codes distinguish.
    in_channels : int
        Channels of the source.

    References
    ----------
    Dalmaz et al., "One model to unite them all: Personalized federated learning of multi-contrast MRI
    synthesis", Medical Image Analysis 94:103121 (2024).
    """

    class Settings(Section):
        """The keys of ``network`` in a run's YAML."""

        width: int = Field(
            default=64, ge=1, le=1024, description="channels of the first stage; doubled twice"
        )
        n_blocks: int = Field(default=9, ge=0, le=128, description="residual blocks")
        latent: int = Field(default=512, ge=1, le=8192, description="length of the mapper's output")
        mapper: Literal["equalised", "plain"] = Field(
            default="equalised", description="StyleGAN's scaled layers, or ordinary linear ones"
        )
        mapper_depth: int = Field(default=6, ge=1, le=16)
        dropout: float = Field(
            default=0.0, ge=0, lt=1, description="in the residual blocks; 0.5 in the paper"
        )
        norm: NormKind = "batch"
        conditioning: Literal["latent", "none"] = Field(
            default="latent", description="none: no mapper and no personalization blocks"
        )
        initialisation: Literal["intended", "released"] = Field(
            default="intended",
            description="released: the authors' defect, equalised layers overwritten, codes without effect",
        )

    def __init__(self, settings: Settings, *, n_sites: int, n_contrasts: int, in_channels: int = 1) -> None:
        super().__init__()
        self.settings = settings
        self.initialisation = settings.initialisation
        self.n_sites, self.n_contrasts = n_sites, n_contrasts
        width, kind = settings.width, settings.norm
        stages: dict[str, tuple[nn.Module, int]] = {
            "enc1": (Stage(nn.Conv2d(in_channels, width, 7, bias=False), width, kind, pad=3), width)
        }
        for name, a, b in (("enc2", width, 2 * width), ("enc3", 2 * width, 4 * width)):
            stages[name] = (Stage(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), b, kind), b)
        for number in range(1, settings.n_blocks + 1):
            stages[f"res{number}"] = (ResidualBlock(4 * width, kind, settings.dropout), 4 * width)
        for name, a, b in (("up1", 4 * width, 2 * width), ("up2", 2 * width, width)):
            transposed = nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1, bias=False)
            stages[name] = (Stage(transposed, b, kind), b)
        self.stages = tuple(stages)
        for name, (module, _) in stages.items():
            self.add_module(name, module)
        self.out = OutStage(width)
        if settings.conditioning == "latent":
            self.mapper = Mapper(
                n_sites + 2 * n_contrasts, settings.latent, depth=settings.mapper_depth, kind=settings.mapper
            )
            self.personalization = nn.ModuleDict(
                {
                    name: PersonalizationBlock(channels, settings.latent)
                    for name, (_, channels) in stages.items()
                }
            )

    def forward(
        self, source: Tensor, site: Tensor, source_contrast: Tensor, target_contrast: Tensor
    ) -> Tensor:
        """Synthesise the target contrast.

        Parameters
        ----------
        source : Tensor
            (batch, in_channels, x, y) in [-1, 1]; x and y multiples of 4, at least 8.
        site, source_contrast, target_contrast : Tensor
            (batch,) int64, one code a sample; ignored with ``conditioning: none``.

        Returns
        -------
        Tensor
            (batch, 1, x, y) float32 in (-1, 1).

        Raises
        ------
        ValueError
            If x or y is not a multiple of 4 or below 8.
        """
        if any(size % GRID or size < MIN_SIZE for size in source.shape[2:]):
            x, y = source.shape[2:]
            raise ValueError(
                f"a slice of {x}×{y} does not fit the generator: pad both sides to multiples of {GRID}, "
                f"at least {MIN_SIZE}"
            )
        with torch.autocast(source.device.type, enabled=False):  # tiny and decisive: always in full precision
            latent = self.latent(site, source_contrast, target_contrast)
        features = source
        for name in self.stages:
            features = self.get_submodule(name)(features)
            if latent is not None:
                features = self.personalization[name](features, latent)
        image: Tensor = self.out(features)
        return image

    def latent(self, site: Tensor, source_contrast: Tensor, target_contrast: Tensor) -> Tensor | None:
        """The codes' latents, (batch, latent); None with ``conditioning: none``."""
        if self.settings.conditioning == "none":
            return None
        sizes = {"n_sites": self.n_sites, "n_contrasts": self.n_contrasts}
        codes = one_hot_codes(site, source_contrast, target_contrast, **sizes)
        latent: Tensor = self.mapper(codes.to(next(self.mapper.parameters()).dtype))
        return latent
