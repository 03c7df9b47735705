"""Trouble with label images."""

from collections.abc import Iterator, Sequence

import numpy as np

from polysite.config.site import Site, values_of
from polysite.data.case import Case
from polysite.data.finding import Finding, Level, Seen, canonical_grid, digest_of_values
from polysite.data.labels import labels_of
from polysite.errors import DataError
from polysite.image import Image


def without_labels(name: str, cases: Sequence[Case]) -> Iterator[Finding]:
    """A site that has no label image at all."""
    if not any(case.labels for case in cases):
        message = f"no image has a label image; say where they are in sites.{name}.data.label_images"
        yield Finding("error", name, "", "", message)


def check_labels(
    case: Case, contrast: str, image: Image, site: Site, values: set[int]
) -> tuple[Seen | None, list[Finding]]:
    """What to remember of an image's label image, and trouble with it; its values are added to `values`."""

    def finding(level: Level, message: str) -> Finding:
        return Finding(level, case.site, case.key, contrast, message)

    try:
        label = case.label_image(contrast)
        if label is None:
            message = "has no label image: it is neither trained on nor scored"
            return None, [finding("warning", message)]
        labels = labels_of(label, image)
    except DataError as error:
        return None, [finding("error", str(error))]
    path = case.labels[contrast]
    findings = [finding("warning", f"{path}: {note}") for note in label.notes]
    there = {int(value) for value in np.unique(labels)} - {0}
    values |= there
    unnamed = sorted(there - {value for given in site.labels.values() for value in values_of(given)})
    if not there:
        return None, [*findings, finding("warning", f"{path}: is empty: no voxel has a label")]
    if unnamed:
        message = f"{path}: `labels` does not name the values {_listed(unnamed)}: they become background"
        findings.append(finding("warning", message))
    grid = canonical_grid(image)
    return Seen(case, contrast, grid, digest_of_values(labels), labels=path), findings


def unseen_classes(name: str, site: Site, values: set[int]) -> Iterator[Finding]:
    """Classes of which no label image of the site has a voxel.

    A class may be rare; but where the label images have values besides that no class has, one of both is wrong.
    """
    named = {label: values_of(given) for label, given in site.labels.items()}
    unnamed = sorted(values.difference(*named.values()))
    if not values:
        return  # each label image was told of
    for label, wanted in named.items():
        if not values.isdisjoint(wanted):
            continue
        message = f"no label image has the class {label} (value {_listed(wanted, ' or ')})"
        if unnamed:
            message += f", but there are values that `labels` does not name: {_listed(unnamed)}; "
        else:
            message += ", so nothing is learnt of it, and to find none scores best; "
        message += f"correct sites.{name}.labels, or leave the class out"
        yield Finding("error" if unnamed else "warning", name, "", "", message)


def _listed(values: Sequence[int], between: str = ", ") -> str:
    return between.join(str(value) for value in values)
