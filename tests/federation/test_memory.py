"""Memory is given again when nobody refers to it any more, and not a moment earlier."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from polysite.federation.memory import Memory

TENSORS = {
    "w": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0, 3.0], dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "steps": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "gaps": torch.arange(6.0).reshape(2, 3).t(),
}


def address(view: memoryview) -> int:
    return np.frombuffer(view, np.uint8).ctypes.data


def test_memory_is_given_again_when_it_is_free() -> None:
    memory = Memory()
    first = memory.take(1000)
    place = address(first)
    second = memory.take(1000)
    assert address(second) != place
    del first
    assert address(memory.take(600)) == place


PARTS: dict[str, Callable[[memoryview], Any]] = {
    "slice": lambda view: view[10:20],
    "array": lambda view: np.frombuffer(view, np.uint8)[10:][::2][:5],
    "tensor": lambda view: torch.from_numpy(np.frombuffer(view, np.uint8)).view(torch.int32)[3:5],
}


@pytest.mark.parametrize("part", PARTS)
def test_memory_that_somebody_sees_a_part_of_is_not_given(part: str) -> None:
    memory = Memory()
    view = memory.take(1000)
    view[:] = bytes(1000)
    place = address(view)
    seen = PARTS[part](view)
    del view
    other = memory.take(1000)
    other[:] = b"x" * 1000
    assert address(other) != place
    assert not any(np.asarray(seen).reshape(-1))
    del seen
    assert address(memory.take(1000)) == place


def test_no_more_is_kept_than_was_needed_at_once() -> None:
    memory = Memory()
    for n_bytes in range(1000, 30_000, 1000):
        memory.take(n_bytes)
    assert [len(block) for block in memory._free] == [29_000]
    assert memory.take(0) == b""
    memory.take(100)
    assert [len(block) for block in memory._free] == [100]


def test_copies_are_equal_and_apart() -> None:
    memory = Memory()
    for _ in range(2):
        copies = memory.copied(TENSORS)
        assert list(copies) == list(TENSORS)
        for name, tensor in TENSORS.items():
            assert (copies[name].dtype, copies[name].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(copies[name], tensor)
            assert copies[name].is_contiguous()
        copies["w"].fill_(-1)
        assert TENSORS["w"][0, 1] == 1
        assert copies["half"][0] == 1.5
        del copies
    assert len(memory._free) == 1
    assert memory.copied({}) == {}
