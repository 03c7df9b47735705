"""The learning-rate schedule against its closed form."""

from itertools import pairwise

import pytest

from polysite.tasks.task import rate_factor


def factors(rounds: int, flat: int | None, end: str) -> list[float]:
    return [rate_factor(r, rounds=rounds, flat_rounds=flat, end=end) for r in range(rounds)]


def test_the_papers_schedule_ends_at_zero_as_released() -> None:
    values = factors(150, 75, "zero")
    assert values[:75] == [1.0] * 75
    assert values[75] == pytest.approx(1 - 1 / 75)
    assert values[-1] == 0.0


def test_the_repaired_schedule_trains_in_its_last_round() -> None:
    values = factors(150, 75, "positive")
    assert values[:75] == [1.0] * 75
    assert values[-1] == pytest.approx(1 / 76)
    steps = [a - b for a, b in pairwise(values[74:])]
    assert steps == pytest.approx([1 / 76] * 75)


@pytest.mark.parametrize("end", ["positive", "zero"])
@pytest.mark.parametrize(("rounds", "flat"), [(1, None), (2, None), (7, 0), (5, 9)])
def test_any_schedule_begins_at_most_at_one_and_never_rises(rounds: int, flat: int | None, end: str) -> None:
    values = factors(rounds, flat, end)
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)
    if end == "positive":
        assert values[-1] > 0
