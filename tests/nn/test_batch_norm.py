"""Convolutions with batch normalisation: PyTorch's formula in both modes, folding, and recalibration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.batch_norm import EPSILON, MOMENTUM, BatchNormConv2d, batch_norm_layers, recalibrate
from vaebm.nn.folding import folded
from vaebm.nn.initialise import initialise
from vaebm.nn.spectral import SpectralNorms


def images(seed: int = 0, n: int = 6) -> Tensor:
    return 0.3 + 2 * torch.randn(n, 4, 9, 8, generator=torch.Generator().manual_seed(seed))


def layer(stride: int = 1, groups: int = 1) -> BatchNormConv2d:
    made = BatchNormConv2d(4, 8 if groups == 1 else 4, 3, stride, groups)
    initialise(made, torch.Generator().manual_seed(1))
    with torch.no_grad():
        made.gain.uniform_(-2, 2, generator=torch.Generator().manual_seed(2))
    return made


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4)])
def test_it_is_pytorchs_batch_norm_in_both_modes(stride: int, groups: int) -> None:
    net = layer(stride, groups)
    reference = nn.BatchNorm2d(net.out_channels, eps=EPSILON, momentum=MOMENTUM)
    with torch.no_grad():
        reference.weight.copy_(net.gain)
        reference.bias.copy_(net.bias)
    for seed in range(3):
        bare = functional.conv2d(images(seed), net.weight, None, stride, 1, groups=groups)
        torch.testing.assert_close(net(images(seed)), reference(bare))
    net.eval(), reference.eval()
    bare = functional.conv2d(images(9), net.weight, None, stride, 1, groups=groups)
    torch.testing.assert_close(net(images(9)), reference(bare), rtol=1e-4, atol=1e-5)
    with folded(net):
        torch.testing.assert_close(net(images(9)), reference(bare), rtol=1e-4, atol=1e-5)
        assert net.normalised_weight() is net.fold


def test_recalibration_is_a_plain_mean_over_batches() -> None:
    net = nn.Sequential(layer())
    for _ in range(5):
        net(100 * images(7))
    batches = iter([images(1), images(2), images(3)])
    recalibrate(net, lambda: net(next(batches)), 3)
    outputs = [functional.conv2d(images(seed), net[0].weight, None, padding=1) for seed in (1, 2, 3)]
    torch.testing.assert_close(net[0].running_mean, torch.stack([y.mean((0, 2, 3)) for y in outputs]).mean(0))
    torch.testing.assert_close(net[0].running_var, torch.stack([y.var((0, 2, 3)) for y in outputs]).mean(0))
    assert [each.momentum for each in batch_norm_layers(net)] == [MOMENTUM]


def test_nothing_is_run_where_there_is_nothing_to_calibrate() -> None:
    recalibrate(nn.Conv2d(1, 1, 1), lambda: pytest.fail("was run"), 3)


def test_the_spectral_penalty_sees_the_folded_map() -> None:
    net = layer().eval()
    norms = SpectralNorms(net, torch.Generator().manual_seed(0))
    for _ in range(30):
        value = norms()
    expected = torch.linalg.matrix_norm(net.normalised_weight().flatten(1), 2)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
