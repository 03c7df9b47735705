"""The reference backbone for segmentation: one encoder, one decoder, the stages of the two-branch network."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from polysite.config.base import Section
from polysite.networks.segmented import Segmented
from polysite.networks.volume_stages import MIN_SIZE, Decoder, Encoder, check_size, heads_of


class UNet(nn.Module):
    """A 3-D U-Net that never down-samples depth: volume in, logits of one of its heads' classes out.

    There are no buffers, and samples of a batch do not see one another.

    Parameters
    ----------
    settings : UNet.Settings
        Width.
    heads : mapping of str to int
        Name of a head -> length of its list of classes, background included.
    in_channels : int
        Of the image.

    References
    ----------
    Çiçek et al., "3D U-Net: learning dense volumetric segmentation from sparse annotation", MICCAI 2016, with
    group norm and kernels for slices that lie far apart.
    """

    class Settings(Section):
        """The keys of ``network`` in a run's YAML."""

        width: int = Field(
            default=64, ge=8, le=1024, multiple_of=8, description="channels of the first block"
        )

    initialisation = "torch"
    min_size: ClassVar[int] = MIN_SIZE

    def __init__(self, settings: Settings, *, heads: Mapping[str, int], in_channels: int = 1) -> None:
        super().__init__()
        width = settings.width
        self.encoder = Encoder(in_channels, width)
        self.decoder = Decoder(8 * width, width)
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
            Logits (batch, class, z, x, y); feature ``bottleneck``, (batch, 8 · width, z, x // 8, y // 8).

        Raises
        ------
        ValueError
            If x or y is below 8.
        """
        check_size(image)
        *skips, bottleneck = self.encoder(image)
        logits = self.heads[head](self.decoder(bottleneck, tuple(skips)))
        return Segmented(logits, {"bottleneck": bottleneck})
