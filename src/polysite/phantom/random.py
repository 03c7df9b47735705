"""Independent random streams named by what they are for."""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for a purpose: the same names give the same numbers, other names unrelated ones.

    >>> bool(stream(7, "abbey", 1).random() == stream(7, "abbey", 1).random())
    True
    """
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "little"))
