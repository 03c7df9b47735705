"""Stages of the exchange in closed form: the norm of a clipped change, errors of rounding, and what feedback owes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polysite.config.exchange import Exchange
from polysite.errors import ConfigError
from polysite.federation.stages.clip import clipped, norm_of
from polysite.federation.stages.exchange import pack, planned, trouble, unpack
from polysite.federation.stages.values import MOST, SCALES, VALUES, tensor_of
from polysite.seeds import torch_stream

NOTHING: dict[str, Tensor] = {}
SHAPES = {"conv": (4, 3, 2, 2), "linear": (5, 3), "bias": (4,), "weight": (1,), "single": ()}


def drawn(seed: int, size: float = 1.0) -> dict[str, Tensor]:
    """A tensor of each shape, the channels of very different sizes."""
    stream = torch_stream(seed, "stages")
    tensors = {name: size * torch.randn(shape, generator=stream) for name, shape in SHAPES.items()}
    for name in ("conv", "linear"):
        tensors[name] *= 10.0 ** torch.arange(len(tensors[name])).reshape(
            -1, *[1] * (tensors[name].dim() - 1)
        )
    return tensors


def rounds(
    exchange: Exchange, changes: list[dict[str, Tensor]]
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """What the server makes of each change of a state of zeros, and what is left at the site."""
    residual, received = NOTHING, []
    for change in changes:
        held = {name: torch.zeros_like(tensor) for name, tensor in change.items()}
        packed = pack(exchange, change, held, residual)
        residual = packed.residual
        received.append(unpack(exchange, packed.tensors, held))
    return received, residual


# --- clipping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1e-3, 0.5, 1.0, 1e3])
def test_a_change_that_is_too_long_gets_exactly_the_norm_and_keeps_its_direction(most: float) -> None:
    change = drawn(1)
    whole = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in change.values()))
    assert norm_of(change) == pytest.approx(whole, rel=1e-14)
    found = clipped(change, most)
    assert most * (1 - 1e-6) <= norm_of(found) <= most
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, change[name] * (most / whole), rtol=1e-6, atol=0)


def test_a_change_that_is_short_enough_is_not_touched() -> None:
    change = drawn(1)
    assert all(torch.equal(tensor, change[name]) for name, tensor in clipped(change, norm_of(change)).items())


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.floats(1e-6, 1e6))
def test_the_norm_is_never_above_the_bound(seed: int, size: float, most: float) -> None:
    assert norm_of(clipped(drawn(seed, size), most)) <= most


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("values", ["float32", "bfloat16", "int8"])
def test_a_training_that_diverged_is_not_hidden(values: str, value: float) -> None:
    change = {"a": torch.tensor([1.0, value]), "b": torch.ones(2)}
    packed = pack(
        Exchange(values=values, clip=1.0), change, {"a": torch.zeros(2), "b": torch.zeros(2)}, NOTHING
    )
    assert not all(bool(torch.isfinite(tensor).all()) for tensor in packed.tensors.values())


# --- smaller values -------------------------------------------------------------------------------------


def test_bfloat16_is_torchs_rounding() -> None:
    change = drawn(2)
    ((received,), _) = rounds(Exchange(values="bfloat16"), [change])
    for name, tensor in change.items():
        assert torch.equal(received[name], tensor.bfloat16().float())
        assert ((received[name] - tensor).abs() <= 2**-8 * tensor.abs()).all()


@given(st.integers(0, 2**32), st.floats(1e-6, 1e6))
def test_int8_errs_by_at_most_half_a_scale(seed: int, size: float) -> None:
    for name, tensor in drawn(seed, size).items():
        sent = VALUES["int8"].pack(name, tensor)
        scales = sent[name + SCALES]
        assert scales.shape == (tensor.shape[:1] if tensor.dim() > 1 else ())
        each = scales.reshape(-1, *[1] * (tensor.dim() - 1)) if tensor.dim() > 1 else scales
        error = (VALUES["int8"].unpack(name, sent) - tensor).abs()
        assert (error <= each / 2 * (1 + 1e-4)).all()
        assert VALUES["int8"].trouble(name, sent) is None


def test_int8_worked_by_hand() -> None:
    """Scales 127/127 and 0; 0.5 and 1.5 go to the even neighbour."""
    tensor = torch.tensor([[127.0, 0.5, 1.5, -126.6], [0.0, 0.0, 0.0, 0.0]])
    sent = VALUES["int8"].pack("a", tensor)
    assert sent["a"].tolist() == [[127, 0, 2, -127], [0, 0, 0, 0]]
    assert sent["a:scale"].tolist() == [1.0, 0.0]


def test_the_largest_value_of_a_channel_is_exact_up_to_float32() -> None:
    tensor = drawn(3)["conv"]
    sent = VALUES["int8"].pack("a", tensor)
    back = VALUES["int8"].unpack("a", sent)
    for channel, other in zip(tensor, back, strict=True):
        place = channel.abs().argmax()
        torch.testing.assert_close(other.flatten()[place], channel.flatten()[place])
    assert sent["a"].abs().max() == MOST


def test_packing_does_not_change_what_it_gets() -> None:
    change, held, residual = drawn(4), drawn(5), drawn(6)
    copies = [{name: tensor.clone() for name, tensor in part.items()} for part in (change, held, residual)]
    pack(Exchange(values="int8", clip=0.1), change, held, residual)
    for part, copy in zip((change, held, residual), copies, strict=True):
        assert all(torch.equal(tensor, copy[name]) for name, tensor in part.items())


# --- all together ---------------------------------------------------------------------------------------


def state() -> dict[str, Tensor]:
    """A state with every kind of tensor."""
    return {
        **drawn(7),
        "double": torch.randn(3, generator=torch_stream(7, "double")).double(),
        "half": torch.randn(3, generator=torch_stream(7, "half")).half(),
        "none": torch.zeros(0, 2),
        "counter": torch.tensor(5),
        "switch": torch.tensor([True, False]),
    }


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("values", ["float32", "bfloat16", "int8"])
def test_what_travels_is_what_was_planned(values: str, clip: float | None) -> None:
    exchange, held = Exchange(values=values, clip=clip), state()
    sent = {name: tensor * 2 if tensor.is_floating_point() else ~tensor for name, tensor in held.items()}
    plan = planned(exchange, {name: tensor.to("meta") for name, tensor in held.items()})
    packed = pack(exchange, sent, held, NOTHING)
    assert list(packed.tensors) == list(plan)
    assert trouble(exchange, packed.tensors, held) is None
    for name, tensor in packed.tensors.items():
        assert (tensor.shape, tensor.dtype) == (plan[name].shape, plan[name].dtype), name
        assert tensor_of(name) in held
    received = unpack(exchange, packed.tensors, held)
    for name, tensor in held.items():
        assert (received[name].shape, received[name].dtype) == (tensor.shape, tensor.dtype), name
        if not tensor.is_floating_point():
            assert torch.equal(received[name], sent[name]), name
    assert all(name in held for name in received)


def test_nothing_is_done_by_default() -> None:
    held, sent = state(), drawn(8)
    packed = pack(Exchange(), sent, held, NOTHING)
    assert packed.norm is None
    assert packed.residual == {}
    assert all(tensor is sent[name] for name, tensor in packed.tensors.items())
    received = unpack(Exchange(), packed.tensors, held)
    assert all(tensor is sent[name] for name, tensor in received.items())
    assert planned(Exchange(), held) == held


def test_the_clipped_change_has_the_norm_over_all_tensors_and_integers_do_not_count() -> None:
    exchange, held = Exchange(clip=0.25), state()
    sent = {**held, "bias": held["bias"] + 3, "linear": held["linear"] - 4, "counter": torch.tensor(10**6)}
    packed = pack(exchange, sent, held, NOTHING)
    received = unpack(exchange, packed.tensors, held)
    change = {name: received[name].double() - held[name].double() for name in ("bias", "linear")}
    assert packed.norm == pytest.approx(math.sqrt(4 * 9 + 15 * 16), rel=1e-6)
    assert norm_of({name: packed.tensors[name] for name in SHAPES}) == pytest.approx(0.25, rel=1e-6)
    assert norm_of(change) == pytest.approx(0.25, rel=2e-3)  # the state is in float32
    assert received["counter"] == 10**6


def test_a_name_that_scales_would_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="'body:scale'"):
        planned(Exchange(values="int8"), {"body:scale": torch.zeros(2)})


def test_int8_without_its_scales_is_trouble() -> None:
    sent = {"a": torch.zeros(2, dtype=torch.int8)}
    assert trouble(Exchange(values="int8"), sent, {"a": torch.zeros(2)}) == "'a' has no scales"


# --- error feedback -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rounds", [1, 10, 100])
@pytest.mark.parametrize("values", ["bfloat16", "int8"])
def test_with_feedback_the_sum_is_off_by_one_rounding_however_many_rounds(values: str, n_rounds: int) -> None:
    """The sum of what was sent plus what is left is the sum of the changes; what is left is one rounding's error."""
    change = {name: tensor.double() for name, tensor in drawn(9).items()}
    received, residual = rounds(Exchange(values=values), [change] * n_rounds)
    for name, tensor in change.items():
        total = sum(part[name].double() for part in received)
        torch.testing.assert_close(total + residual[name], n_rounds * tensor, rtol=1e-10, atol=0)
        if values == "int8":
            axes = tuple(range(1, tensor.dim()))
            largest = tensor.abs().amax(dim=axes, keepdim=True) if axes else tensor.abs().max()
            step = 1.01 * largest / MOST  # the change with what was left over is this much longer at most
        else:
            step = 2 * 2**-8 * tensor.abs()
        assert ((total - n_rounds * tensor).abs() <= step).all(), name


def test_without_feedback_the_error_adds_up() -> None:
    change = {name: tensor.double() for name, tensor in drawn(9).items()}
    (one, *_), _ = rounds(Exchange(values="int8", error_feedback=False), [change])
    received, residual = rounds(Exchange(values="int8", error_feedback=False), [change] * 100)
    assert residual == {}
    off = sum(part["conv"].double() for part in received) - 100 * change["conv"]
    torch.testing.assert_close(off, 100 * (one["conv"].double() - change["conv"]), rtol=1e-9, atol=1e-12)


def test_what_clipping_lost_is_not_fed_back() -> None:
    """A long change, then none: of the first nothing comes later but what its rounding lost."""
    change = drawn(10)
    exchange = Exchange(values="int8", clip=1.0)
    nothing = {name: torch.zeros_like(tensor) for name, tensor in change.items()}
    received, _ = rounds(exchange, [change] + [nothing] * 5)
    assert norm_of(received[0]) == pytest.approx(1.0, rel=0.01)
    after = {name: sum(part[name] for part in received[1:]) for name in change}
    assert norm_of(after) < 0.01


def test_what_is_left_counts_towards_the_norm() -> None:
    """However much rounding lost before, no change longer than the bound comes to be rounded."""
    exchange = Exchange(values="int8", clip=1.0)
    large = {name: 100 * tensor for name, tensor in drawn(11).items()}
    held = {name: torch.zeros_like(tensor) for name, tensor in large.items()}
    packed = pack(exchange, held, held, large)
    assert packed.norm == pytest.approx(norm_of(large))
    assert norm_of(unpack(exchange, packed.tensors, held)) == pytest.approx(1.0, rel=0.01)
