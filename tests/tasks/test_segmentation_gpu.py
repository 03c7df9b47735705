"""Segmentation on a CUDA device, where there is one."""

import numpy as np
import pytest
import torch

from heart_cases import HeartCase, heart_task
from polysite.tasks.augment import Augment
from polysite.tasks.task import Effort

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_round_on_the_gpu_gives_the_losses_of_the_cpu(precision: str, channels_last: bool) -> None:
    """Augmentation is drawn and applied on the CPU, so both devices see the same volumes."""
    losses = {}
    for device in ("cpu", "cuda"):
        task = heart_task(
            device=device,
            augment=Augment(),
            training={"precision": precision, "channels_last": channels_last, "learning_rate": 1e-4},
        )
        model = task.build("ivy", 1)
        data = task.data("ivy", [HeartCase(seed=seed, shape=(3 + seed, 24, 24)) for seed in range(2)])
        effort = Effort(n_steps=3, batch_size=2, rate_factor=1.0, seed=5)
        losses[device] = task.fit(model, data, effort, task.optimisers(model))
    for name, value in losses["cpu"].items():
        assert losses["cuda"][name] == pytest.approx(value, rel=0.05), name


@pytest.mark.parametrize("window", [None, 16])
def test_a_prediction_on_the_gpu_is_close_to_the_cpus(window: int | None) -> None:
    made = []
    for device in ("cpu", "cuda"):
        task = heart_task(device=device, window=window)
        made.append(task.predict(task.build("ivy", 1), HeartCase(shape=(3, 24, 31)), "ivy"))
    np.testing.assert_allclose(made[0], made[1], atol=2e-3)


def test_validation_and_a_guide_work_on_the_gpu() -> None:
    task = heart_task(device="cuda", classes=("LV", "MYO", "RV", "scar"))
    model, data = task.build("nave", 1), task.data("nave", [HeartCase(scar=True)])
    teacher = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    effort = Effort(n_steps=2, batch_size=1, rate_factor=1.0, seed=5)
    losses = task.fit(
        model,
        data,
        effort,
        task.optimisers(model),
        guide=lambda look: (look.output.logits - look.again(teacher).logits).square().mean(),
    )
    assert all(np.isfinite(list(losses.values())))
    assert 0 <= task.validate(model, data, 4, seed=0)["dice"] <= 1
