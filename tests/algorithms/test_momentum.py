"""The momentum model follows by its closed form; the bank holds the last states; both live in a memory."""

import pytest
import torch

from polysite.algorithms.momentum import follow, recall, remember, teacher


def state(value: float, count: int = 0) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((2, 3), value), "a.count": torch.tensor(count)}


@pytest.mark.parametrize("m", [0.5, 0.9, 0.99])
def test_the_teacher_is_the_closed_form_after_many_steps(m):
    students = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    memory: dict[str, torch.Tensor] = {}
    held = teacher(memory, {"w": students[0]})
    for student in students[1:]:
        follow(held, {"w": student}, m)
    n_steps = len(students) - 1
    expected = m**n_steps * students[0] + (1 - m) * sum(
        m ** (n_steps - step) * students[step] for step in range(1, n_steps + 1)
    )
    torch.testing.assert_close(memory["teacher/w"], expected)


def test_m_one_never_moves_and_m_zero_is_the_student():
    held = state(1.0)
    follow(held, state(7.3, count=4), 1.0)
    assert held["a.weight"].eq(1).all()
    follow(held, state(7.3, count=5), 0.0)
    assert all(torch.equal(held[name], tensor) for name, tensor in state(7.3, count=5).items())


def test_the_teacher_starts_as_a_copy_and_is_then_kept():
    memory: dict[str, torch.Tensor] = {"other": torch.zeros(1)}
    student = state(1.0)
    held = teacher(memory, student)
    assert all(torch.equal(held[name], tensor) for name, tensor in student.items())
    student["a.weight"].fill_(9.0)  # training goes on, or the server's values arrive
    assert held["a.weight"].eq(1).all()
    again = teacher(memory, student)
    assert again["a.weight"].eq(1).all()
    assert again["a.weight"] is held["a.weight"] is memory["teacher/a.weight"]
    assert set(memory) == {"other", "teacher/a.weight", "teacher/a.count"}


def test_following_takes_gradients_of_nobody():
    student = {"w": torch.ones(2, requires_grad=True)}
    memory: dict[str, torch.Tensor] = {}
    held = teacher(memory, student)
    follow(held, student, 0.5)
    assert not held["w"].requires_grad


def test_the_bank_is_the_mean_of_the_last_five_states():
    memory: dict[str, torch.Tensor] = {"teacher/a.weight": torch.zeros(1)}
    assert recall(memory) == {}
    for value in range(1, 13):
        remember(memory, state(float(value), count=value), 5)
        last = range(max(1, value - 4), value + 1)
        mean = recall(memory)
        torch.testing.assert_close(mean["a.weight"], torch.full((2, 3), sum(last) / len(last)))
    assert mean["a.count"].dtype == torch.int64
    assert mean["a.count"] == 10
    assert len([name for name in memory if name.startswith("bank/")]) == 5 * 2
    assert memory["bank/0/a.weight"].eq(8).all()
    assert memory["bank/4/a.weight"].eq(12).all()


def test_the_bank_keeps_copies_and_shrinks_when_told():
    memory: dict[str, torch.Tensor] = {}
    current = state(1.0)
    remember(memory, current, 3)
    current["a.weight"].fill_(5.0)
    assert recall(memory)["a.weight"].eq(1).all()
    for value in (2.0, 3.0, 4.0):
        remember(memory, state(value), 3)
    remember(memory, state(6.0), 1)
    assert recall(memory)["a.weight"].eq(6).all()


def test_a_bank_of_ten_places_keeps_its_order():
    memory: dict[str, torch.Tensor] = {}
    for value in range(12):
        remember(memory, state(float(value)), 11)
    remember(memory, state(12.0), 2)
    assert memory["bank/0/a.weight"].eq(11).all()
