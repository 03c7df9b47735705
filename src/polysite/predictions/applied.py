"""What applying a model means for a kind of task: one class for each, and the table of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from polysite.data.cache import PreparedCase
from polysite.data.case import Case
from polysite.errors import ConfigError
from polysite.evaluate.table import Score
from polysite.image import Image
from polysite.predictions.predictor import Predictor
from polysite.predictions.segmentation import AppliedSegmentation
from polysite.predictions.synthesis import AppliedSynthesis


class Compared(Protocol):
    """A prediction beside the truth, on the native grid."""

    def scores(self) -> list[Score]:
        """Its scores."""
        ...

    def write_example(self, path: Path) -> None:
        """Keep what the report draws."""
        ...


class Applied(Protocol):
    """A site's model at work. A job is what it makes of one image: a synthesis task, or an image's labels.

    ``title`` is what the predictions are called, ``needed`` what a case must have to be scored, and ``jobs``
    lists what the site's model can do.
    """

    title: str
    needed: str
    jobs: tuple[str, ...]

    def named(self, text: str) -> str:
        """The job of ``--task``."""
        ...

    def fitting(self, path: Path) -> str:
        """The job for a volume of unknown content, from its name."""
        ...

    def source(self, job: str) -> str:
        """The image that a job reads."""
        ...

    def image(self, case: PreparedCase, job: str) -> Image:
        """The prediction on the native grid of the case."""
        ...

    def write(self, image: Image, path: Path) -> None:
        """Write a prediction as a volume."""
        ...

    def name(self, case: Case, job: str) -> str:
        """The prediction's name in a BIDS derivative, after the subject and session."""
        ...

    def about(self, job: str) -> dict[str, Any]:
        """What the sidecar says beside the sources."""
        ...

    def describe(self, folder: Path) -> None:
        """Write what a derivative needs beyond its description."""
        ...

    def has_truth(self, case: PreparedCase, found: Case, job: str) -> bool:
        """Whether a job can be scored in a case."""
        ...

    def compared(self, case: PreparedCase, found: Case, image: Image, job: str) -> Compared:
        """A prediction beside its truth."""
        ...

    def completed(self, scores: Sequence[Score]) -> list[Score]:
        """A site's scores with what several predictions of a subject say together."""
        ...


APPLIED: dict[str, type[Applied]] = {"synthesis": AppliedSynthesis, "segmentation": AppliedSegmentation}
"""Task -> how its models are applied."""


def applied(folder: Path, predictor: Predictor) -> Applied:
    """A predictor as its kind of task uses it.

    Raises
    ------
    ConfigError
        If the task is of a kind that cannot be applied here.
    """
    name = predictor.run.task.name
    if name not in APPLIED:
        raise ConfigError(
            f"{folder}: models of the task {name!r} can be trained but not applied; that is known for: "
            f"{', '.join(APPLIED)}"
        )
    make: Any = APPLIED[name]
    made: Applied = make(predictor)
    return made
