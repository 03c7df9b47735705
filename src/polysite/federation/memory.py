"""Memory that is used again."""

import mmap
import threading
import weakref
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes at whose multiples a copied tensor begins."""


class Memory:
    """Gives memory, and takes it back when nobody refers to it any more, to give it again.

    New memory costs several times what it takes to fill it, because the system hands it out page by page.

    >>> memory = Memory()
    >>> memory.take(3)[:] = b"abc"
    >>> bytes(memory.take(2))
    b'ab'
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> memoryview:
        """So many bytes of any content, which can be written to; they begin at a multiple of every item's size."""
        if not n_bytes:
            return memoryview(bytearray())
        block = self._fitting(n_bytes) or mmap.mmap(-1, n_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        array = np.frombuffer(block, np.uint8, n_bytes)
        weakref.finalize(array, self._free.append, block).atexit = False
        return array.data

    def copied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of tensors on the CPU."""
        room = {name: -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for name, tensor in tensors.items()}
        block = torch.from_numpy(np.frombuffer(self.take(sum(room.values())), np.uint8))
        parts = torch.split(block, list(room.values()))
        return {
            name: part[: tensor.nbytes].view(tensor.dtype).reshape(tensor.shape).copy_(tensor.detach())
            for (name, tensor), part in zip(tensors.items(), parts, strict=True)
        }

    def _fitting(self, n_bytes: int) -> mmap.mmap | None:
        """A free block; those that are too small, or much too large, are let go."""
        with self._lock:
            fitting = [block for block in self._free if n_bytes <= len(block) <= 2 * n_bytes]
            self._free[:] = fitting
            return self._free.pop() if fitting else None
