"""All data in one place: the reference that a federation cannot have."""

from typing import ClassVar

from polysite.algorithms.local import Local


class Central(Local):
    """One model trained on the pooled data of all sites, each slice with its own site's code."""

    pools_data: ClassVar[bool] = True
