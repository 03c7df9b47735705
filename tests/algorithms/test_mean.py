"""The weighted mean against NumPy and its closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polysite.algorithms.mean import WeightedMean


def mean_of(values: list[torch.Tensor], weights: list[float]) -> torch.Tensor:
    mean = WeightedMean()
    for value, weight in zip(values, weights, strict=True):
        mean.add({"x": value}, weight)
    return mean.result()["x"]


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.1, 1e3)), min_size=1, max_size=20))
def test_equals_numpy_average(pairs: list[tuple[float, float]]) -> None:
    values, weights = zip(*pairs, strict=True)
    got = mean_of([torch.tensor([value], dtype=torch.float64) for value in values], list(weights))
    assert got.item() == pytest.approx(np.average(values, weights=weights), rel=1e-9, abs=1e-9)


def test_one_message_comes_back_exactly() -> None:
    value = torch.randn(100)
    assert torch.equal(mean_of([value], [0.3]), value)


def test_order_changes_rounding_only() -> None:
    values = [torch.randn(50) for _ in range(6)]
    weights = [1.0, 5.0, 2.0, 9.0, 3.0, 4.0]
    there = mean_of(values, weights)
    back = mean_of(values[::-1], weights[::-1])
    torch.testing.assert_close(there, back, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_stay(dtype: torch.dtype) -> None:
    got = mean_of([torch.tensor([2]).to(dtype), torch.tensor([5]).to(dtype)], [1, 2])
    assert got.dtype == dtype
    assert got.item() == 4


def test_large_integers_are_not_rounded_to_float32() -> None:
    large = 2**40 + 1
    assert mean_of([torch.tensor(large), torch.tensor(large)], [1, 3]).item() == large


def test_a_name_that_one_site_lacks_is_averaged_over_the_others() -> None:
    mean = WeightedMean()
    mean.add({"a": torch.tensor([1.0])}, 1)
    mean.add({"a": torch.tensor([3.0]), "b": torch.tensor([7.0])}, 3)
    assert {name: value.item() for name, value in mean.result().items()} == {"a": 2.5, "b": 7.0}


def test_inputs_are_neither_changed_nor_kept() -> None:
    first, second = torch.tensor([1.0]), torch.tensor([3.0])
    mean = WeightedMean()
    mean.add({"x": first}, 1)
    mean.add({"x": second}, 1)
    assert (first.item(), second.item()) == (1.0, 3.0)
    first.fill_(100)
    assert mean.result()["x"].item() == 2.0


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_must_be_positive(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        WeightedMean().add({}, weight)
