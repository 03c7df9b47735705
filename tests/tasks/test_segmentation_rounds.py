"""A round of segmentation: what decides it, and what a method may add to it."""

import torch

from heart_cases import EFFORT, HeartCase, heart_task, one, same, states, trained
from polysite.networks.segmented import Segmented
from polysite.tasks.augment import Augment
from polysite.tasks.task import Effort, Pass


def test_a_round_is_decided_by_its_seed() -> None:
    task = heart_task(augment=Augment(noise=1))
    (one_, losses), (again, same_losses) = trained(task), trained(task)
    assert losses == same_losses
    assert same(states(one_), states(again))
    other, _ = trained(task, Effort(n_steps=2, batch_size=1, rate_factor=1.0, seed=6))
    assert not same(states(one_), states(other))


def test_what_a_method_adds_is_added() -> None:
    """A penalty pulls by its own gradient, once a step however many kinds of volumes it has."""
    task = heart_task()
    model = task.build("ivy", 1)
    batches = one(task, HeartCase(seed=0), HeartCase(seed=1, shape=(2, 24, 24)))
    assert len(batches) == 2
    gradients = []
    for penalty in (None, lambda model: sum(p.sum() for p in model.parameters())):
        task.step(model, batches, {"none": torch.optim.SGD(model.parameters(), 0.0)}, penalty)
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, with_penalty in zip(*gradients, strict=True):
        torch.testing.assert_close(with_penalty, plain + 1, atol=1e-5, rtol=0)


def test_a_guide_sees_the_pass_and_the_same_volumes_through_other_values() -> None:
    task = heart_task()
    teacher = {name: tensor + 0.01 for name, tensor in states(task.build("ivy", 1)).items()}
    seen = []

    def guide(look: Pass) -> torch.Tensor:
        assert isinstance(look.output, Segmented)
        other, own = look.again(teacher), look.again({})
        seen.append((look.output, other, own))
        return (look.output.logits - other.logits).square().mean() * 0.0

    (plain, losses), (guided, same_losses) = trained(task), trained(task, guide=guide)
    assert losses == same_losses
    assert same(states(plain), states(guided))
    assert len(seen) == EFFORT.n_steps
    for output, other, own in seen:
        assert set(output.features) == {"global", "local"}
        assert output.logits.requires_grad
        assert not other.logits.requires_grad
        assert torch.equal(own.logits, output.logits)
        assert not torch.equal(other.logits, output.logits)


def test_a_guide_counts_as_the_mean_over_volumes() -> None:
    task = heart_task()
    batches = one(task, *(HeartCase(seed=s, shape=(d, 24, 24)) for s, d in ((0, 4), (1, 4), (2, 2))))
    gradients = []
    for guide in (None, lambda look: len(look.output.logits) * look.output.logits.mean()):
        model = task.build("ivy", 1)
        task.step(model, batches, {"none": torch.optim.SGD(model.parameters(), 0.0)}, guide=guide)
        gradients.append(model.segmenter.heads["LV-MYO-RV"].bias.grad.clone())
    # mean logits have gradient 1/4 by each bias; shares 2/3 and 1/3, values 2 and 1
    torch.testing.assert_close(gradients[1] - gradients[0], torch.full((4,), (4 / 3 + 1 / 3) / 4))


def test_only_some_parameters_and_after_every_step() -> None:
    task = heart_task()
    calls: list[int] = []
    start = states(task.build("ivy", 1))
    heads = {name for name in start if ".heads." in name}
    model, _ = trained(task, only=heads, after_step=lambda model: calls.append(1))
    assert len(calls) == EFFORT.n_steps
    changed = {name for name, tensor in states(model).items() if not torch.equal(tensor, start[name])}
    assert changed == heads
