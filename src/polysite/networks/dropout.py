"""Dropout that draws from its own seeded stream, with one random bit a decision where it can."""

import torch
from torch import Tensor, nn

_BITS = 8


class Dropout(nn.Module):
    """Zero each value with probability p while training and scale the rest by ``1 / (1 - p)``.

    With p = 0.5 a decision costs one random bit: whole 64-bit numbers are drawn and their bytes looked up
    in a table of eight factors. Other p compare a uniform number a value, exact to 2⁻²⁴. The numbers come
    from a stream of the module, on the device of its input, and never from torch's global one; on one kind
    of device they depend on nothing but the seed, the shapes and the number of calls since seeding.

    Parameters
    ----------
    p : float
        In [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the dropout probability must be in [0, 1), not {p!r}")
        self.p = p
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Start the stream anew."""
        self._seed = seed
        self._stream: torch.Generator | None = None

    def _generator(self, device: torch.device) -> torch.Generator:
        if self._stream is None or self._stream.device != device:
            self._stream = torch.Generator(device).manual_seed(self._seed)
        return self._stream

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiled graph cannot draw from a stream
    def factors(self, x: Tensor) -> Tensor:
        """The factors 0 and ``1 / (1 - p)``, of the shape, type and device of x."""
        stream = self._generator(x.device)
        if self.p != 0.5:
            kept = torch.rand(x.shape, generator=stream, device=x.device) >= self.p
            return kept.to(x.dtype).div_(1 - self.p)
        n_words = -(-x.numel() // 64)
        words = torch.empty(n_words, dtype=torch.int64, device=x.device)
        words.random_(-(2**63), None, generator=stream)
        octets = words.view(torch.uint8).to(torch.int32)
        patterns = torch.arange(2**_BITS, device=x.device)[:, None] >> torch.arange(_BITS, device=x.device)
        table = (patterns & 1).to(x.dtype) * 2
        return table.index_select(0, octets).reshape(-1)[: x.numel()].reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the identity in evaluation mode and for p = 0."""
        if not self.training or self.p == 0:
            return x
        factors: Tensor = self.factors(x)
        return x * factors


def seed_dropout(model: nn.Module, seed: int) -> None:
    """Give every :class:`Dropout` in a model a stream of its own, decided by the seed and its place.

    Parameters
    ----------
    model : nn.Module
        Any module.
    seed : int
        Its low 32 bits count (torch's CPU generator takes no more).
    """
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    # an odd multiplier spreads neighbouring seeds; without it layer 1 of seed 7 would be layer 0 of seed 8
    for place, layer in enumerate(layers):
        layer.seed((seed * 0x9E3779B1 + place * 0x85EBCA77) % 2**32)
