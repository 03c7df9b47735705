"""What is measured for each kind of task: the metrics, in which direction they are better, and their columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite


@dataclass(frozen=True)
class Column:
    """What may stand in one column of scores.csv.

    ``above`` excludes ``low`` itself; ``optional`` lets a cell be empty, which says that the value is not
    defined; ``hint`` tells what a value that is not finite comes from.
    """

    name: str
    holds: type[int] | type[float] | type[str] = float
    low: float = -inf
    high: float = inf
    above: bool = False
    optional: bool = False
    hint: str = ""

    def refusal(self, value: object) -> str | None:
        """Why a value cannot stand here; None if it can."""
        if value is None:
            return None if self.optional else f"{self.name} is missing"
        if self.holds is str:
            return None if isinstance(value, str) and value else f"{self.name} is empty"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{self.name} is {value!r}, not a number"
        if not isfinite(value):
            return f"{self.name} is {value}; a finite value is needed{self.hint}"
        if not self.low <= value <= self.high or (self.above and value == self.low):
            return f"{self.name} is {value}, outside {'(' if self.above else '['}{self.low:g}, {self.high:g}]"
        return None


@dataclass(frozen=True)
class Metric:
    """A measure of how good a prediction is; ``sign`` is 1 where larger is better, -1 where smaller is."""

    column: Column
    label: str
    unit: str
    digits: int
    sign: int

    @property
    def name(self) -> str:
        """Its column's name."""
        return self.column.name

    @property
    def title(self) -> str:
        """Label and unit.

        >>> METRICS["psnr_db"].title, METRICS["dice"].title
        ('PSNR [dB]', 'Dice')
        """
        return f"{self.label} [{self.unit}]" if self.unit else self.label


@dataclass(frozen=True)
class Kind:
    """A kind of task: its metrics, the main one first, and what else a line of its scores says.

    ``parts`` is what a score's ``task`` is called. Where ``joined`` is true, a subject's parts are judged
    together: the answer for a site is the main metric's mean over them.
    """

    name: str
    metrics: tuple[Metric, ...]
    details: tuple[Column, ...]
    part: str
    joined: bool

    @property
    def main(self) -> Metric:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Metrics and details in the order of the file."""
        return (*(metric.column for metric in self.metrics), *self.details)


def _millimetres(name: str) -> Column:
    return Column(name, low=0, optional=True)


KINDS: Mapping[str, Kind] = {
    "synthesis": Kind(
        "synthesis",
        metrics=(
            Metric(
                Column("psnr_db", hint=" (it is infinite where a volume is compared with itself)"),
                "PSNR",
                "dB",
                digits=2,
                sign=1,
            ),
            Metric(Column("ssim", low=-1, high=1), "SSIM", "", digits=3, sign=1),
            Metric(Column("nrmse", low=0), "NRMSE", "", digits=3, sign=-1),
        ),
        details=(
            Column("n_voxels", int, low=1),
            Column("data_range", low=0, above=True),
            Column("mask", str),
        ),
        part="task",
        joined=False,
    ),
    "segmentation": Kind(
        "segmentation",
        metrics=(
            Metric(Column("dice", low=0, high=1), "Dice", "", digits=3, sign=1),
            Metric(_millimetres("hd95_mm"), "HD95", "mm", digits=1, sign=-1),
            Metric(_millimetres("assd_mm"), "ASSD", "mm", digits=2, sign=-1),
            Metric(Column("volume_error_ml", low=0), "Volume error", "ml", digits=1, sign=-1),
            Metric(Column("ef_error_percent", low=0, optional=True), "EF error", "points", digits=1, sign=-1),
        ),
        details=(
            Column("volume_ml", low=0),
            Column("true_volume_ml", low=0),
            Column("ef_percent", high=100, optional=True),
            Column("true_ef_percent", low=0, high=100, optional=True),
        ),
        part="class",
        joined=True,
    ),
}
"""Kind of task -> what its scores hold. A task that is not here has no scores."""

METRICS: Mapping[str, Metric] = {metric.name: metric for kind in KINDS.values() for metric in kind.metrics}
"""Every metric by its column."""
