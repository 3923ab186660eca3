"""Depth-wise convolutions in half precision: PyTorch's values and gradients, by another way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vaebm.nn.weight_norm import WeightNormConv2d


def gradients(net: WeightNormConv2d, x: Tensor, half: bool) -> list[Tensor]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        y = net(x)
    assert y.dtype == (torch.bfloat16 if half else torch.float32)
    loss = (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum()
    return [y.float().detach(), *torch.autograd.grad(loss, [x, net.weight, net.gain, net.bias])]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(9, 8), (1, 3)])
def test_half_precision_is_near_full_precision(kernel: int, size: tuple[int, int]) -> None:
    net = WeightNormConv2d(6, 6, kernel, groups=6)
    x = torch.randn(5, 6, *size, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(gradients(net, x, half=True), gradients(net, x, half=False), strict=True):
        assert found.dtype == torch.float32
        assert float((found - expected).abs().max()) < 0.03 * float(expected.abs().max()) + 0.02


def test_a_chain_asks_for_the_gradient_in_x_alone() -> None:
    net = WeightNormConv2d(4, 4, 3, groups=4).requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (gradient,) = torch.autograd.grad(net(x).float().square().sum(), x)
    assert gradient.abs().max() > 0


def test_strided_and_grouped_ones_are_left_to_pytorch() -> None:
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for net in (WeightNormConv2d(4, 4, 3, stride=2, groups=4), WeightNormConv2d(4, 8, 3, groups=4)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = net(x)
            weight = net.normalised_weight()
            expected = functional.conv2d(x, weight, net.bias, net.stride, 1, groups=4)
        assert torch.equal(y, expected)
