"""Sites that label only some classes: what their labels say of the others.

A site that does not outline the right ventricle gives its voxels the label background, and one that does not
tell infarct from healthy muscle calls both myocardium. There the label means "one of these classes", and the
loss compares it with the sum of their probabilities: whatever the model finds inside the group is neither
rewarded nor punished (the marginal loss of Shi et al., "Marginal loss and exclusion loss for partially
supervised multi-organ segmentation", Medical Image Analysis 70:101979, 2021, with groups other than the
background's too).
"""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor


def labelled_as(
    classes: Sequence[str], annotated: Collection[str], part_of: Mapping[str, str] | None = None
) -> list[int]:
    """For each class, the index of the class whose label its voxels have at a site.

    Parameters
    ----------
    classes : sequence of str
        The fixed list of the run, background first.
    annotated : collection of str
        Classes that the site labels; background always is.
    part_of : mapping of str to str, optional
        Class -> the class that takes its voxels where it is not annotated itself, earlier in the list;
        default: the background.

    Raises
    ------
    ValueError
        If a name is not in the list, or a whole comes after its part.

    Examples
    --------
    >>> classes = ["background", "LV", "MYO", "RV", "infarct"]
    >>> labelled_as(classes, ["LV", "MYO", "RV"], {"infarct": "MYO"})
    [0, 1, 2, 3, 2]
    >>> labelled_as(classes, ["LV", "MYO", "infarct"], {"infarct": "MYO"})
    [0, 1, 2, 0, 4]
    """
    part_of = part_of or {}
    for name in {*annotated, *part_of, *part_of.values()}:
        if name not in classes:
            raise ValueError(f"{name!r} is not one of the classes {', '.join(classes)}")
    groups: list[int] = []
    for index, name in enumerate(classes):
        whole = classes.index(part_of.get(name, classes[0]))
        if index == 0 or name in annotated:
            groups.append(index)
        elif whole < index:
            groups.append(groups[whole])
        else:
            raise ValueError(
                f"{name!r} is part of {classes[whole]!r}, which must come before it in the classes"
            )
    return groups


def relabel(labels: Tensor, groups: Tensor) -> Tensor:
    """Labels (batch, z, x, y) int64 after each sample's groups (batch, class).

    Only a label of a class that the site claims not to annotate changes; thus it is never impossible.
    """
    return groups.gather(1, labels.flatten(1)).reshape(labels.shape)


def of_group(groups: Tensor, labels: Tensor) -> Tensor:
    """Whether a class belongs to a voxel's label: bool (batch, class, z, x, y)."""
    return groups[:, :, None, None, None] == labels[:, None]
