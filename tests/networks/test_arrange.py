"""Memory format, compilation and the GPU change how a network computes, not what."""

import copy

import pytest
import torch

from polysite.networks.arrange import arrange
from polysite.networks.dropout import seed_dropout


def train_once(network, slices, codes):
    """Output and a gradient of one training pass."""
    seed_dropout(network, 3)
    image = network(slices, *codes)
    image.square().sum().backward()
    return image.detach().cpu(), network.enc1.conv.weight.grad.cpu()


def assert_same(network, reference, slices, codes, *, tolerance):
    (image, gradient), (expected, expected_gradient) = (
        train_once(model, slices, codes) for model in (network, reference)
    )
    torch.testing.assert_close(image, expected, atol=tolerance, rtol=0)
    scale = expected_gradient.abs().max()
    torch.testing.assert_close(gradient / scale, expected_gradient / scale, atol=100 * tolerance, rtol=0)


def test_channels_last_changes_nothing_but_the_format(make, slices, codes):
    network = make()
    reference = copy.deepcopy(network)
    arrange(network, channels_last=True)
    assert network.enc2.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(network, reference, slices, codes, tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_changes_nothing_but_the_speed(make, slices, codes):
    network = make(n_blocks=1)
    reference = copy.deepcopy(network)
    arrange(network, compiled=True)
    assert list(network.state_dict()) == list(reference.state_dict())
    assert_same(network, reference, slices, codes, tolerance=1e-5)


@pytest.fixture
def cuda() -> str:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("channels_last", [False, True])
def test_gpu_gives_the_cpus_output(make, slices, codes, cuda, channels_last):
    network = make(dropout=0.0)
    expected, _ = train_once(copy.deepcopy(network), slices, codes)
    network.to(cuda)
    arrange(network, channels_last=channels_last)
    image, _ = train_once(network, slices.to(cuda), [code.to(cuda) for code in codes])
    torch.testing.assert_close(image, expected, atol=0.02, rtol=0)  # TF32 convolutions


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_gpu_bfloat16_is_close_and_reproducible(make, slices, codes, cuda, compiled):
    network = make().to(cuda)
    arrange(network, channels_last=True, compiled=compiled)
    inputs, code = slices.to(cuda), [value.to(cuda) for value in codes]
    reference = copy.deepcopy(network)
    with torch.autocast("cuda", torch.bfloat16):
        rough, _ = train_once(network, inputs, code)
    exact, _ = train_once(reference, inputs, code)
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean()
