"""What the values of a site's label images mean, in classes of a network's head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import ModuleDict

from polysite.config.site import Site, values_of
from polysite.errors import ConfigError
from polysite.losses.annotation import labelled_as

BACKGROUND = "background"


@dataclass(frozen=True)
class Labelling:
    """A site's classes and the values that stand for them."""

    classes: tuple[str, ...]
    """Of the head, background first."""
    groups: tuple[int, ...]
    """For each class, the class whose label its voxels have; see ``polysite.losses.annotation``."""
    values: tuple[tuple[int, ...], ...]
    """For each class, its values in label images; none for the background and what is not labelled."""

    @property
    def head(self) -> str:
        """The head's name, the same for the same classes: ``"LV-MYO-RV"``."""
        return "-".join(self.classes[1:])

    def indices(self, raw: NDArray[Any]) -> NDArray[np.int64]:
        """Class indices for an image's own values; a value without a class is background."""
        found = np.zeros(raw.shape, dtype=np.int64)
        for index, values in enumerate(self.values):
            for value in values:
                found[raw == value] = index
        return found


def labelling(name: str, site: Site, classes: Sequence[str] | None = None) -> Labelling:
    """The labelling of one site.

    Parameters
    ----------
    name : str
        The site's, for errors.
    classes : sequence of str, optional
        One list for all sites, without the background; default: the site's own classes, in their order.

    Raises
    ------
    ConfigError
        If the site labels a class that is not in the list, or says what a class is part of and one of both is
        not, or there is no list; or if its head can have no module's name.
    """
    if classes is None and site.part_of:
        raise ConfigError(
            f"sites.{name}.part_of: names classes that the site does not label, which are learnt only where "
            "`task.classes` lists the classes of all sites; set it, or drop `part_of`"
        )
    full = (BACKGROUND, *(site.labels if classes is None else classes))
    if len(full) == 2 and hasattr(ModuleDict, full[1]):
        raise ConfigError(
            f"sites.{name}.labels: a head cannot be called {full[1]!r}, as a part of torch is; rename the class"
        )
    try:
        groups = labelled_as(full, site.labels, site.part_of)
    except ValueError as error:
        raise ConfigError(f"sites.{name}: {error}; see `task.classes`, `labels` and `part_of`") from error
    values = tuple(values_of(site.labels[label]) if label in site.labels else () for label in full)
    return Labelling(full, tuple(groups), values)
