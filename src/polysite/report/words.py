"""Numbers as a reader wants to see them."""

from polysite.evaluate.statistics import Interval


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "site"), plural(2, "site")
    ('1 site', '2 sites')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float, digits: int = 2) -> str:
    """Fixed digits with a true minus sign.

    >>> number(-0.5)
    '−0.50'
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """The same with a plus sign before what is positive.

    >>> signed(0.5), signed(-0.001)
    ('+0.50', '0.00')
    """
    text = number(value, digits)
    return text if text[0] == "−" or float(text) == 0 else f"+{text}"


def interval_text(interval: Interval, digits: int = 2) -> str:
    """The interval in words that follow the mean; empty where there is none."""
    if interval.low is None or interval.high is None:
        return ""
    return f" (95 % interval {number(interval.low, digits)} to {number(interval.high, digits)})"


def p_text(p: float | None) -> str:
    """A p value that does not break over lines, or the words for a test that there is none."""
    if p is None:
        return "too few for a test"
    text = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
    return text.replace(" ", "\u00a0")


def bytes_text(count: float) -> str:
    """Bytes in decimal units, as on a network.

    >>> bytes_text(25_677_100)
    '25.7 MB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def task_text(task: str | None) -> str:
    """A task with a true arrow; None stands for all parts of a task that are judged together.

    >>> task_text("T1w->T2w"), task_text(None)
    ('T1w → T2w', 'all classes')
    """
    return "all classes" if task is None else task.replace("->", " → ")
