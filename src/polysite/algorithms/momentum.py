"""A site's own history: a momentum model that follows the trained one, and a bank of its last states.

Both live as named tensors in a site's memory, so they are part of its checkpoint and never leave it. Unlike
the trained model, the momentum model is not overwritten by what the server sends.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from polysite.algorithms.mean import WeightedMean

TEACHER = "teacher/"
BANK = "bank/"


def teacher(memory: dict[str, Tensor], student: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The momentum model in a site's memory; a copy of the student if there is none yet.

    Parameters
    ----------
    memory : dict of str to Tensor
        The site's; afterwards it holds the result as ``teacher/<name>``, where the student's tensors lie.
    student : mapping of str to Tensor
        The trained model's ``state_dict()``.

    Returns
    -------
    dict of str to Tensor
        By the student's names; the memory's own tensors, which :func:`follow` changes.
    """
    for name, tensor in student.items():
        kept = memory.get(TEACHER + name)
        memory[TEACHER + name] = tensor.detach().clone() if kept is None else kept.to(tensor.device)
    return {name: memory[TEACHER + name] for name in student}


def teacher_of(memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The momentum model that a memory holds, by the student's names; empty if there is none."""
    return {name.removeprefix(TEACHER): tensor for name, tensor in memory.items() if name.startswith(TEACHER)}


@torch.no_grad()
def follow(teacher: Mapping[str, Tensor], student: Mapping[str, Tensor], momentum: float) -> None:
    """``θ_T ← m θ_T + (1 - m) θ_S`` in place; integers become the student's.

    After k steps ``θ_T = m^k θ_T0 + (1 - m) Σ_i m^(k - i) θ_Si``.

    >>> teacher, student = {"a": torch.tensor([8.0])}, {"a": torch.tensor([4.0])}
    >>> follow(teacher, student, 0.75)
    >>> teacher
    {'a': tensor([7.])}
    """
    for name, tensor in teacher.items():
        if tensor.is_floating_point():
            tensor.lerp_(student[name], 1 - momentum)
        else:
            tensor.copy_(student[name])


def remember(memory: dict[str, Tensor], state: Mapping[str, Tensor], size: int) -> None:
    """Put a copy of a state into the bank, ``bank/<place>/<name>``, and drop all but the last ``size``.

    Place 0 is the oldest; nothing but the new state is copied.
    """
    states = [*_states(memory), {name: tensor.detach().clone() for name, tensor in state.items()}]
    for name in [name for name in memory if name.startswith(BANK)]:
        del memory[name]
    for place, kept in enumerate(states[-size:]):
        memory.update({f"{BANK}{place}/{name}": tensor for name, tensor in kept.items()})


def recall(memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean of the bank's states, by the states' names; empty if the bank is."""
    mean = WeightedMean()
    for state in _states(memory):
        mean.add(state, 1.0)
    return mean.result()


def _states(memory: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The bank's states, oldest first."""
    states: dict[int, dict[str, Tensor]] = {}
    for full, tensor in memory.items():
        if full.startswith(BANK):
            place, _, name = full[len(BANK) :].partition("/")
            states.setdefault(int(place), {})[name] = tensor
    return [states[place] for place in sorted(states)]
