"""One hospital: its scans and what it wants to learn."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from polysite.config.base import Name, Section, at
from polysite.config.prepare import Prepare
from polysite.config.sources import SiteData

_TASK = re.compile(r"^\s*([A-Za-z0-9_-]+?)\s*(?:->|→)\s*([A-Za-z0-9_-]+?)\s*$")


def parse_task(text: str) -> tuple[str, str]:
    """Source and target of a synthesis task.

    >>> parse_task("T1w -> T2w")
    ('T1w', 'T2w')
    """
    match = _TASK.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a task; write 'SOURCE->TARGET', for example 'T1w->T2w'")
    source, target = match.groups()
    if source == target:
        raise ValueError(f"task {text!r} has the same source and target")
    return source, target


def _task_text(text: str) -> str:
    return "->".join(parse_task(text))


LabelValue = Annotated[int, Field(ge=1, le=65_535, strict=True)]
LabelValues = Annotated[tuple[LabelValue, ...], Field(min_length=1)]


class Site(Section):
    """One hospital: its scans and what it wants to learn, by ``tasks`` or by ``labels``."""

    data: SiteData
    tasks: tuple[Annotated[str, AfterValidator(_task_text)], ...] = Field(
        default=(), description="synthesis: what is made from what, 'T1w->T2w'"
    )
    labels: dict[Name, LabelValue | LabelValues] = Field(
        default={},
        description="segmentation: class -> its value in this site's label images (or several that are one "
        "class here); a class that is not named is not labelled at this site",
    )
    part_of: dict[Name, Name] = Field(
        default={},
        description="segmentation: class that is not labelled here -> class whose label its voxels have; "
        "default: the background",
    )
    prepare: Prepare | None = Field(default=None, description="replaces the run's `prepare` at this site")

    @model_validator(mode="after")
    def _one_goal(self) -> "Site":
        if bool(self.tasks) == bool(self.labels):
            raise ValueError(
                "needs either `tasks` (synthesis) or `labels` (segmentation)"
                + (", not both" if self.tasks else "")
            )
        return self

    @model_validator(mode="after")
    def _wholes(self) -> "Site":
        for part in self.part_of:
            if part in self.labels:
                raise at(["part_of", part], f"{part!r} has labels of its own here; drop one of both")
            seen, whole = [part], self.part_of[part]
            while whole in self.part_of and whole not in seen:
                seen.append(whole)
                whole = self.part_of[whole]
            if whole in seen:
                raise at(["part_of", part], f"goes round in a circle: {' in '.join([*seen, whole])}")
        return self

    @field_validator("labels")
    @classmethod
    def _one_meaning(cls, labels: dict[str, int | tuple[int, ...]]) -> dict[str, int | tuple[int, ...]]:
        values = [value for given in labels.values() for value in values_of(given)]
        if len(set(values)) < len(values):
            raise ValueError(f"a value stands for two classes: {labels}")
        if "background" in labels:
            raise ValueError("'background' is every value that no class has; leave it out")
        return labels

    @field_validator("tasks")
    @classmethod
    def _once(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"a task is listed twice: {', '.join(tasks)}")
        return tasks


def values_of(given: int | tuple[int, ...]) -> tuple[int, ...]:
    """The values of one class in a site's label images; the first is what a prediction is written with."""
    return (given,) if isinstance(given, int) else given
