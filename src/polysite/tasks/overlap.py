"""Overlap of a prediction with labels, where a site may not label every class."""

import torch
from torch import Tensor

from polysite.losses.annotation import relabel


def dice_scores(probabilities: Tensor, labels: Tensor, groups: Tensor | None = None) -> Tensor:
    """Dice of the most probable class, for every class that is labelled, without the background.

    Parameters
    ----------
    probabilities : Tensor
        (1, class, z, x, y).
    labels : Tensor
        (1, z, x, y) int64, class indices.
    groups : Tensor, optional
        (1, class) int64, see ``polysite.losses.annotation``; probabilities of a group are added first.

    Returns
    -------
    Tensor
        (labelled class,); 1 where prediction and label are both empty: nothing missed, nothing invented.

    Examples
    --------
    >>> labels = torch.tensor([0, 1, 1, 2]).reshape(1, 1, 1, 4)
    >>> found = torch.nn.functional.one_hot(torch.tensor([1, 1, 1, 0]), 4).float().T.reshape(1, 4, 1, 1, 4)
    >>> [round(value, 3) for value in dice_scores(found, labels).tolist()]
    [0.8, 0.0, 1.0]
    """
    n_classes = probabilities.shape[1]
    own = torch.arange(n_classes, device=labels.device)[None]
    groups = own if groups is None else groups
    index = groups[:, :, None, None, None].expand_as(probabilities)
    found = torch.zeros_like(probabilities).scatter_add(1, index, probabilities).argmax(1)
    labels = relabel(labels, groups)
    scores = []
    for label in torch.nonzero((groups == own)[0]).flatten().tolist()[1:]:
        in_found, in_labels = found == label, labels == label
        both, either = (in_found & in_labels).sum(), in_found.sum() + in_labels.sum()
        scores.append(torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0))
    return torch.stack(scores)
