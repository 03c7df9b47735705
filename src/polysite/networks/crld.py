"""The two-branch segmentation network of FedCRLD: a global and a local encoder, re-localized, one decoder."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from polysite.config.base import Section
from polysite.networks.relocalization import CrossRoles, Relocalization
from polysite.networks.segmented import Segmented
from polysite.networks.volume_stages import MIN_SIZE, Decoder, Encoder, check_size, heads_of


class CRLD(nn.Module):
    """Volume in, logits of one of its heads' classes out.

    ``global_encoder`` is what a federation shares (5,478,912 values in 32 tensors at width 64);
    ``local_encoder``, ``relocalization``, ``decoder`` and ``heads`` are a site's own. Skip connections come
    from the local encoder. There are no buffers, and samples of a batch do not see one another.

    Parameters
    ----------
    settings : CRLD.Settings
        Width and attention.
    heads : mapping of str to int
        Name of a head -> length of its list of classes, background included.
    in_channels : int
        Of the image.

    References
    ----------
    Qi et al., "Contrastive re-localization and history distillation in federated CMR segmentation",
    MICCAI 2022, LNCS 13435:256-265.
    """

    class Settings(Section):
        """The keys of ``network`` in a run's YAML."""

        width: int = Field(
            default=64, ge=8, le=1024, multiple_of=8, description="channels of the first block"
        )
        relocalization: bool = Field(
            default=True, description="false: the decoder gets both encoders' features as they are"
        )
        cross_roles: CrossRoles = Field(
            default="local_query",
            description="who asks in the cross-attention; the release computes global_query",
        )

    initialisation = "torch"
    min_size: ClassVar[int] = MIN_SIZE

    def __init__(self, settings: Settings, *, heads: Mapping[str, int], in_channels: int = 1) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.global_encoder = Encoder(in_channels, width)
        self.local_encoder = Encoder(in_channels, width)
        if settings.relocalization:
            self.relocalization = Relocalization(8 * width, settings.cross_roles)
        self.decoder = Decoder(16 * width, width)
        self.heads = heads_of(width, heads)

    def forward(self, image: Tensor, head: str) -> Segmented:
        """Segment volumes.

        Parameters
        ----------
        image : Tensor
            (batch, in_channels, z, x, y); any z, x and y at least 8, odd ones too.
        head : str
            Which classes.

        Returns
        -------
        Segmented
            Logits (batch, class, z, x, y); features ``global`` and ``local``,
            (batch, 8 · width, z, x // 8, y // 8).

        Raises
        ------
        ValueError
            If x or y is below 8.
        """
        check_size(image)
        global_features = self.global_encoder(image)[-1]
        *skips, local_features = self.local_encoder(image)
        if self.settings.relocalization:
            bottleneck = self.relocalization(local_features, global_features)
        else:
            bottleneck = torch.cat([local_features, global_features], dim=1)
        logits = self.heads[head](self.decoder(bottleneck, tuple(skips)))
        return Segmented(logits, {"global": global_features, "local": local_features})
