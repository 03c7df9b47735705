"""What the page says differently for each kind of task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """Sentences of one kind of task; ``scoring`` takes the ways in which scores were taken."""

    measure: str
    difference: str
    scoring: Callable[[Sequence[str]], str]
    slices: str
    warning: str
    seed_effect: str
    blindness: str


def _synthesis_scoring(ways: Sequence[str]) -> str:
    return (
        f"One score a volume, on the scan's own grid, {'; '.join(ways)}: PSNR from the error pooled over the mask, "
        "SSIM in slices (Gaussian window, sigma 1.5) averaged over the mask's voxels, NRMSE as "
        "‖error‖ / ‖target‖. Higher PSNR and SSIM and lower NRMSE are better;"
    )


def _segmentation_scoring(ways: Sequence[str]) -> str:
    return (
        "One score a class and image, on the scan's own grid and in millimetres: Dice of the volume, HD95 (the larger "
        "of both directed 95th percentiles of surface distance), ASSD (the mean of both surfaces' distances), volume "
        "error without sign, and once a subject the error of the left ventricle's ejection fraction in percentage "
        "points. A class that is missing in one of prediction and truth has Dice 0 and the image's diagonal as its "
        "distance; rightly missing in both it has Dice 1 and no distance. “n =” counts the subjects of a mean where a "
        "metric is not defined for all. “All classes” averages classes and images within a subject. Higher Dice is "
        "better, of all others lower;"
    )


WORDINGS: Mapping[str, Wording] = {
    "synthesis": Wording(
        measure="PSNR",
        difference="Difference [dB]",
        scoring=_synthesis_scoring,
        slices="The middle slice of the first test subject, the run with the lowest seed of each method. Seen from "
        "the feet: anterior is up, the patient's left (L) on the right. All images of a row have one window; "
        "the error has its own scale.",
        warning="Synthetic images are predictions of a network. They can leave out a lesion or show one that is not "
        "there, and are not for diagnosis.",
        seed_effect="tenths of a dB",
        blindness="PSNR, SSIM and NRMSE measure likeness to the acquired image in a normalised scale. They reward "
        "smooth images and do not know what a radiologist needs to see.",
    ),
    "segmentation": Wording(
        measure="Dice (the mean over classes and images of a subject)",
        difference="Difference in Dice",
        scoring=_segmentation_scoring,
        slices="Three slices through what is labelled in the first test subject's image, the run with the lowest seed "
        "of each method. Outlines lie between the voxels of a class and its neighbours.",
        warning="Outlines are predictions of a network. They can miss a scar or show one that is not there, and "
        "are neither for diagnosis nor for measuring a patient's heart.",
        seed_effect="a hundredth of Dice or more",
        blindness="Dice forgives errors in large structures and punishes a voxel in small ones; distances and "
        "volumes see other errors. The truth is one observer's or one procedure's outline: two experts differ too.",
    ),
}
"""Kind of task -> its sentences."""
