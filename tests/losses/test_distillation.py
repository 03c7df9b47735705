"""Distillation: the order of its arguments, its smallest value, and where no gradient goes."""

import math

import pytest
import torch

from polysite.losses.distillation import distillation, feature_mse


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_minus_q_log_p():
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.25, 0.25]])
    expected = -sum(b * math.log(a) for a, b in zip(p[0].tolist(), q[0].tolist(), strict=True))
    assert distillation(p.log(), q.log()).item() == pytest.approx(expected, abs=1e-6)
    assert distillation(q.log(), p.log()).item() != pytest.approx(expected, abs=1e-3)


def test_its_gradient_is_p_minus_q_and_only_the_students():
    student, teacher = noise(2, 4, 1, 3, 5).requires_grad_(), noise(2, 4, 1, 3, 5, seed=1).requires_grad_()
    distillation(student, teacher).backward()
    difference = student.detach().softmax(1) - teacher.detach().softmax(1)
    torch.testing.assert_close(student.grad, difference / 30)
    assert teacher.grad is None


def test_it_is_smallest_for_equal_logits_with_the_entropy_as_value():
    teacher = noise(2, 4, 1, 3, 5)
    q = teacher.softmax(1)
    least = distillation(teacher, teacher)
    torch.testing.assert_close(least, -(q * q.log()).sum(1).mean())
    assert distillation(teacher + 0.1 * noise(2, 4, 1, 3, 5, seed=1), teacher) > least


def test_feature_difference_of_worked_numbers_reaches_the_student_only():
    student = torch.tensor([1.0, 4.0], requires_grad=True)
    teacher = torch.tensor([3.0, 4.0], requires_grad=True)
    loss = feature_mse(student, teacher)
    loss.backward()
    assert loss.item() == 2
    assert student.grad.tolist() == [-2, 0]
    assert teacher.grad is None
