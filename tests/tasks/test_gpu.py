"""Training and prediction on a CUDA device, where there is one."""

import numpy as np
import pytest
import torch

from fakes import MemoryCase, small_task
from polysite.config.training import Training
from polysite.tasks.synthesis import Synthesis
from polysite.tasks.task import Effort

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on(device: str, **training: object) -> Synthesis:
    """The small task on a device."""
    task = small_task()
    task.device = torch.device(device)
    task.training = Training(**{"batch_size": 4, **training})  # type: ignore[arg-type]
    return task


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_round_on_the_gpu_gives_the_losses_of_the_cpu(precision: str, channels_last: bool) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        task = on(device, precision=precision, channels_last=channels_last)
        model = task.build("north", 1)
        effort = Effort(n_steps=3, batch_size=4, rate_factor=1.0, seed=5)
        losses[device] = task.fit(model, task.data("north", [MemoryCase()]), effort, task.optimisers(model))
    for name, value in losses["cpu"].items():
        assert losses["cuda"][name] == pytest.approx(value, rel=0.05), name


def test_a_prediction_on_the_gpu_is_close_to_the_cpus() -> None:
    made = []
    for device in ("cpu", "cuda"):
        task = on(device)
        made.append(task.predict(task.build("north", 1), MemoryCase(seed=9), "T1w->T2w", "north"))
    np.testing.assert_allclose(made[0], made[1], atol=1e-3)
