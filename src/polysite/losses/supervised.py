"""Dice and cross-entropy against labels, over a fixed list of classes, some of which a site may not label.

``groups`` is :func:`polysite.losses.annotation.labelled_as` of each sample as int64 (batch, class);
None where every class is labelled.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from polysite.losses.annotation import of_group, relabel


def cross_entropy(logits: Tensor, labels: Tensor, groups: Tensor | None = None) -> Tensor:
    """``-log Σ p_c`` over the classes c that the voxel's label stands for; mean over voxels.

    Parameters
    ----------
    logits : Tensor
        (batch, class, z, x, y).
    labels : Tensor
        (batch, z, x, y) int64 in [0, class).
    groups : Tensor, optional
        (batch, class) int64.

    Examples
    --------
    >>> logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).reshape(1, 3, 1, 1, 1)
    >>> label = torch.zeros(1, 1, 1, 1, dtype=torch.int64)
    >>> round(cross_entropy(logits, label).item(), 4)  # -log 0.7
    0.3567
    >>> round(cross_entropy(logits, label, torch.tensor([[0, 1, 0]])).item(), 4)  # -log (0.7 + 0.1)
    0.2231
    """
    if groups is None:
        return F.cross_entropy(logits.float(), labels)
    meant = of_group(groups, relabel(labels, groups))
    log_p = F.log_softmax(logits.float(), dim=1)
    return -log_p.masked_fill(~meant, -torch.inf).logsumexp(dim=1).mean()


def dice_loss(logits: Tensor, labels: Tensor, groups: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """``1 - mean of (2 Σ p y + smooth) / (Σ p + Σ y + smooth)`` over samples and labelled classes.

    The background counts like any class. A class that a volume lacks is in the mean all the same: its term
    is 1 where the model sees nothing of it either, and finite always.

    Parameters
    ----------
    logits : Tensor
        (batch, class, z, x, y).
    labels : Tensor
        (batch, z, x, y) int64 in [0, class).
    groups : Tensor, optional
        (batch, class) int64; the probabilities of a group are added before they are compared.
    smooth : float
        Above 0.

    References
    ----------
    Milletari et al., "V-Net", 3DV 2016, with plain instead of squared sums in the denominator.
    """
    p = F.softmax(logits.float(), dim=1)
    labelled = torch.ones(p.shape[:2], device=p.device)
    if groups is not None:
        labels = relabel(labels, groups)
        labelled = (groups == torch.arange(p.shape[1], device=p.device)).to(p.dtype)
        p = torch.zeros_like(p).scatter_add(1, groups[:, :, None, None, None].expand_as(p), p)
    y = torch.zeros_like(p).scatter_(1, labels[:, None], 1.0)
    space = (2, 3, 4)
    terms = (2 * (p * y).sum(space) + smooth) / (p.sum(space) + y.sum(space) + smooth)
    return 1 - ((terms * labelled).sum(1) / labelled.sum(1)).mean()
