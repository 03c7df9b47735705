"""A student learns from a teacher, which learns nothing from the student."""

from torch import Tensor
from torch.nn import functional as F


def distillation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """``H(q, p) = -Σ q log p`` with p of the student and q of the teacher; mean over voxels.

    Smallest where p = q, with the entropy of q as its value; its gradient by the student's logits is
    ``p - q``.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        (batch, class, z, x, y).

    References
    ----------
    Hinton et al., "Distilling the knowledge in a neural network", 2015, equation 2 with T = 1.

    Examples
    --------
    >>> import torch
    >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    >>> round(distillation(p.log(), q.log()).item(), 4)  # log 2, whatever q
    0.6931
    """
    return F.cross_entropy(student_logits.float(), F.softmax(teacher_logits.detach().float(), dim=1))


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two feature maps of one shape."""
    return F.mse_loss(student.float(), teacher.detach().float())
