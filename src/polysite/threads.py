"""How many threads there are to give, and who gets them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch works in the calling thread alone.

    Copying and adding tensors is as fast in one thread, and does not wait at every step for a second one that
    the training's own threads keep from its processor.
    """
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
