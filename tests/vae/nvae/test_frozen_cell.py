"""A frozen cell computes what its modules compute, forwards and backwards, and only where weights stand still."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vaebm.nn.batch_norm import batch_norm_layers
from vaebm.nn.folding import folded
from vaebm.nn.initialise import initialise
from vaebm.vae.nvae.cells import CONVOLUTIONS, Cell, DecoderCell, Norm


def make(norm: Norm, channels: int = 24) -> DecoderCell:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        cell = DecoderCell(channels, 3, 5, CONVOLUTIONS[norm])
    initialise(cell, generator)
    for layer in batch_norm_layers(cell):
        layer.running_mean.normal_(generator=generator)
        layer.running_var.uniform_(0.5, 2.0, generator=generator)
    return cell.eval().requires_grad_(False)


def images(shape: tuple[int, ...] = (3, 24, 5, 8)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = function(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    return y.detach(), torch.autograd.grad((y * weights).sum(), x)[0]


def modules_alone(cell: DecoderCell) -> Callable[[Tensor], Tensor]:
    return lambda x: Cell.forward(cell, x)


@pytest.mark.parametrize("norm", ["weight", "batch"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_it_is_the_cell(norm: Norm, channels_last: bool) -> None:
    cell, x = make(norm), images()
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = value_and_gradient(modules_alone(cell), x)
    with folded(cell):
        found = value_and_gradient(cell, x)
        assert list(cell.frozen or {}) == [torch.float32]
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_half_precision_is_as_near_as_the_modules_are() -> None:
    cell, x = make("weight"), images()
    exact = value_and_gradient(modules_alone(cell), x)
    with folded(cell), torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradient(cell, x)
        plain = value_and_gradient(modules_alone(cell), x)
        assert list(cell.frozen or {}) == [torch.bfloat16]
    assert found[0].dtype == torch.float32
    for a, b, c in zip(found, plain, exact, strict=True):
        assert (a - c).norm() < 1.2 * (b - c).norm()


def test_weights_that_learn_or_change_are_never_frozen() -> None:
    cell, x = make("weight"), images()
    before = cell(x)
    with folded(cell):
        assert torch.allclose(cell(x), before, atol=1e-5)
    assert cell.frozen is None
    for parameter in cell.parameters():
        parameter.mul_(1.5)
    with folded(cell):
        assert torch.allclose(cell(x), modules_alone(cell)(x), atol=1e-5)
        assert not torch.allclose(cell(x), before, atol=1e-3)
    cell.requires_grad_(True)
    with folded(cell):
        cell(x).sum().backward()
        assert cell.frozen == {}
    assert all(isinstance(layer.bias, nn.Parameter) and layer.bias.grad is not None for layer in cell.body[:5:2])
