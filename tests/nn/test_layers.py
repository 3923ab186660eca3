"""Activations, Fourier features, residual blocks, and weights drawn from a generator."""

import math

import pytest
import torch
from torch import nn

from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import FourierFeatures, mlp
from vaebm.nn.residual import ResidualBlock
from vaebm.nn.weight_norm import WeightNormConv2d, WeightNormLinear


def test_lipschitz_swish_is_no_steeper_than_one() -> None:
    x = torch.linspace(-30, 30, 100_001, dtype=torch.float64, requires_grad=True)
    y = LipschitzSwish()(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y, x * torch.sigmoid(x) / 1.1)
    assert 0.99 < float(slope.abs().max()) <= 1.0


def test_fourier_features_are_the_point_its_sines_and_cosines() -> None:
    features = FourierFeatures(3, 4000, 2.5, torch.Generator().manual_seed(0))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    y = features(x)
    angles = x @ features.frequencies
    torch.testing.assert_close(y, torch.cat([x, torch.sin(angles), torch.cos(angles)], 1))
    assert y.shape == (5, features.out_features)
    # 12,000 frequencies: the standard error of their variance is 2.5^2 sqrt(2 / 12,000).
    assert abs(float(features.frequencies.square().mean()) - 6.25) < 4 * 6.25 * math.sqrt(2 / 12_000)
    assert list(features.state_dict()) == ["frequencies"]
    assert not list(features.parameters())


def test_fourier_angles_are_not_left_to_half_precision() -> None:
    features = FourierFeatures(2, 64, 30.0, torch.Generator().manual_seed(0))
    x = 2 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = features(x)
    torch.testing.assert_close(low.float(), features(x), rtol=0, atol=1e-6)


def test_mlp_has_an_activation_between_any_two_layers_and_none_at_the_end() -> None:
    kinds = [type(layer) for layer in mlp([3, 5, 7, 2], LipschitzSwish)]
    assert kinds == [nn.Linear, LipschitzSwish, nn.Linear, LipschitzSwish, nn.Linear]
    assert mlp([3, 5, 7, 2])(torch.zeros(4, 3)).shape == (4, 2)


@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7), (1, 5)])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (4, 6)])
def test_residual_blocks_follow_their_formula(inputs: int, outputs: int, height: int, width: int, halve: bool) -> None:
    block = ResidualBlock(inputs, outputs, halve)
    initialise(block, torch.Generator().manual_seed(0))
    x = torch.randn(2, inputs, height, width, generator=torch.Generator().manual_seed(1))
    act = LipschitzSwish()
    y = block.skip(x) + block.second(act(block.first(act(x))))
    if halve:
        rows, columns = -(-height // 2), -(-width // 2)
        pooled = torch.empty(2, outputs, rows, columns)
        for i in range(rows):
            for j in range(columns):
                pooled[:, :, i, j] = y[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
        y = pooled
    torch.testing.assert_close(block(x), y)


def test_initial_weights_are_uniform_and_the_generators_alone() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 200, 3), nn.Linear(50, 400, bias=False), WeightNormLinear(4, 500))

    first, second = build(), build()
    before = torch.random.get_rng_state()
    for net in (first, second):
        initialise(net, torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    for layer, fan_in in ((first[0], 27), (first[1], 50), (first[2], 4)):
        bound = 1 / math.sqrt(fan_in)
        values = layer.weight.detach().flatten()
        assert values.abs().max() <= bound
        # Mean and variance of a uniform, whose fourth moment is bound^4 / 5.
        assert abs(float(values.mean())) < 4 * bound / math.sqrt(3 * len(values))
        error = math.sqrt((1 / 5 - 1 / 9) / len(values)) * bound**2
        assert abs(float(values.square().mean()) - bound**2 / 3) < 4 * error


def test_convolutions_keep_the_size() -> None:
    for kernel in (1, 3):
        assert WeightNormConv2d(2, 5, kernel)(torch.zeros(1, 2, 7, 9)).shape == (1, 5, 7, 9)
