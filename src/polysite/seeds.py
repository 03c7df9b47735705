"""One run, many independent streams of random numbers, each named by what it is for."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for a purpose: the same names give the same seed, other names an unrelated one.

    >>> derive(7, "round", 3, "guys") == derive(7, "round", 3, "guys")
    True
    """
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for a purpose."""
    return np.random.default_rng(derive(seed, *names))


def torch_stream(seed: int, *names: str | int) -> "torch.Generator":
    """A CPU torch generator for a purpose."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))
