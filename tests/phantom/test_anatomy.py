"""Heads: complete, plausible, different, never a mirror image."""

import numpy as np
from numpy.testing import assert_allclose

from polysite.phantom.anatomy import Grid, Head, Person, draw_head, draw_person
from polysite.phantom.tissue import TISSUES

BRAIN = TISSUES[2:13]


def volume_ml(head: Head, *names: str) -> float:
    return sum(float(head.fractions[name].sum()) for name in names) * float(np.prod(head.grid.step_mm)) / 1000


def test_fractions_sum_to_one(heads: list[Head]) -> None:
    for head in heads:
        assert_allclose(sum(head.fractions.values()), 1, atol=1e-5)
        assert min(float(f.min()) for f in head.fractions.values()) >= -1e-6


def test_every_tissue_is_there(heads: list[Head]) -> None:
    for head in heads:
        assert list(head.fractions) == list(TISSUES)
        assert all(volume_ml(head, name) > 0.05 for name in TISSUES)
        assert set(np.unique(head.labels)) >= set(range(len(TISSUES))) - {TISSUES.index("lens")}


def test_volumes_are_those_of_people(heads: list[Head]) -> None:
    for head in heads:
        assert 1100 < volume_ml(head, "csf", *BRAIN) < 1900
        assert 380 < volume_ml(head, "grey_matter") < 720
        assert 300 < volume_ml(head, "white_matter") < 680
        assert 150 < volume_ml(head, "csf") < 620
        assert 80 < volume_ml(head, "cerebellar_grey", "cerebellar_white") < 190
        assert 4 < volume_ml(head, "putamen") < 14
        assert 8 < volume_ml(head, "vitreous") < 20


def test_the_cortex_lies_between_csf_and_white_matter(heads: list[Head]) -> None:
    """Folded: far more of the brain's surface is cortex than a smooth shell of 2.5 mm would hold."""
    for head in heads:
        brain = sum(head.fractions[name] for name in BRAIN)
        smooth_shell_ml = 0.0025 * 4 * np.pi * (3 * brain.sum() * 3.2**3 / (4 * np.pi)) ** (2 / 3)
        assert volume_ml(head, "grey_matter") > 2 * smooth_shell_ml
        # white matter hardly ever touches the CSF around the brain
        outer = np.zeros(head.grid.shape, dtype=bool)
        outer[:, :, 40:] = True  # above the ventricles
        touching = (head.fractions["white_matter"] > 0.3) & (head.fractions["csf"] > 0.3) & outer
        assert touching.sum() < 0.01 * ((head.fractions["grey_matter"] > 0.3) & outer).sum()


def test_people_differ(heads: list[Head]) -> None:
    for one, other in ((0, 1), (0, 2), (1, 2)):
        grey = heads[one].fractions["grey_matter"], heads[other].fractions["grey_matter"]
        dice = 2 * np.minimum(*grey).sum() / (grey[0].sum() + grey[1].sum())
        assert dice < 0.75


def test_left_is_not_the_mirror_of_right(heads: list[Head]) -> None:
    for head in heads:
        grey = head.fractions["grey_matter"]
        dice = 2 * np.minimum(grey, grey[::-1]).sum() / (2 * grey.sum())
        assert 0.2 < dice < 0.75  # two hemispheres in the same places, folded in their own ways


def test_the_same_generator_gives_the_same_head(people: list[Person]) -> None:
    again = draw_person(np.random.default_rng(0), lesions=True)
    grid = Grid((16, 16, 16), (12.0, 12.0, 12.0))
    for name, fraction in draw_head(people[0], grid).fractions.items():
        assert np.array_equal(fraction, draw_head(again, grid).fractions[name])


def test_the_anatomy_does_not_depend_on_the_grid(people: list[Person], heads: list[Head]) -> None:
    finer = draw_head(people[0], Grid((96, 112, 83), (2.0, 2.0, 2.0), heads[0].grid.centre_mm))
    for name in ("grey_matter", "white_matter", "csf", "fat", "bone"):
        assert_allclose(volume_ml(finer, name), volume_ml(heads[0], name), rtol=0.12)


def test_lesions_lie_in_white_matter_mostly_and_only_when_asked(people: list[Person]) -> None:
    healthy = draw_person(np.random.default_rng(0))
    assert healthy.lesions == ()
    assert len(people[0].lesions) >= 6
    grid = Grid((60, 70, 52), (3.2, 3.2, 3.2), (0.0, -13.0, 14.0))
    head = draw_head(healthy, grid)
    assert float(head.fractions["lesion"].max()) == 0
