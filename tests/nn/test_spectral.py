"""The spectral penalty against singular values from linear algebra."""

import pytest
import torch
from torch import Tensor, nn

from vaebm.energy.base import linear_from_zero
from vaebm.nn.initialise import initialise
from vaebm.nn.spectral import SpectralNorms
from vaebm.nn.weight_norm import WeightNormConv2d, WeightNormLinear, weight_norm_layers


def network() -> nn.Module:
    """Two layers of one shape, two of shapes of their own, and one that is not normalised."""
    net = nn.Sequential(
        WeightNormConv2d(3, 8, 3),
        WeightNormConv2d(8, 8, 3),
        WeightNormConv2d(8, 8, 3),
        WeightNormLinear(4, 12),
        nn.Linear(12, 1),
    )
    initialise(net, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in weight_norm_layers(net):
            layer.gain.copy_(torch.rand(layer.gain.shape, generator=torch.Generator().manual_seed(1)) + 0.5)
    return net


def exact(net: nn.Module) -> Tensor:
    norms = [torch.linalg.svdvals(layer.normalised_weight().flatten(1))[0] for layer in weight_norm_layers(net)]
    return torch.stack(norms).sum()


def spectral(net: nn.Module) -> SpectralNorms:
    return SpectralNorms(net, torch.Generator().manual_seed(2))


def test_it_is_the_sum_of_the_largest_singular_values() -> None:
    net = network()
    norms = spectral(net)
    first = norms().detach()
    assert first == pytest.approx(exact(net).item(), rel=1e-2)
    values = [norms().detach() for _ in range(60)]
    assert values[-1] == pytest.approx(exact(net).item(), rel=1e-5)
    # u^T W v with v = W^T u / |W^T u| can only come from below, and rises.
    assert all(b >= a - 1e-5 for a, b in zip([first, *values], values, strict=False))


def test_it_follows_weights_that_move() -> None:
    net = network()
    norms = spectral(net)
    norms()
    generator = torch.Generator().manual_seed(3)
    for _ in range(30):
        with torch.no_grad():
            for layer in weight_norm_layers(net):
                layer.weight.add_(0.01 * torch.randn(layer.weight.shape, generator=generator))
        value = norms().detach()
    assert value == pytest.approx(exact(net).item(), rel=2e-2)


def test_its_gradient_is_the_singular_vectors() -> None:
    net = network()
    norms = spectral(net)
    for _ in range(60):
        value = norms()
    weights = [p for layer in weight_norm_layers(net) for p in (layer.weight, layer.gain)]
    for found, expected in zip(
        torch.autograd.grad(value, weights), torch.autograd.grad(exact(net), weights), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-4)


def test_a_checkpoint_resumes_it_exactly() -> None:
    net = network()
    norms = spectral(net)
    norms()
    resumed = SpectralNorms(net, torch.Generator().manual_seed(9))
    resumed.load_state_dict(norms.state_dict())
    assert bool(resumed.started)
    assert torch.equal(norms(), resumed())
    assert not list(norms.parameters())


def test_a_module_without_layers_costs_nothing() -> None:
    assert float(spectral(nn.SiLU())()) == 0.0


def test_a_net_without_normalised_layers_has_its_linear_ones_counted() -> None:
    net = nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 7), nn.SiLU(), linear_from_zero(7))
    initialise(net[:4], torch.Generator().manual_seed(0))
    norms = spectral(net)
    hidden = sum(float(torch.linalg.svdvals(layer.weight.detach())[0]) for layer in (net[0], net[2]))  # type: ignore[arg-type]
    assert norms().item() == pytest.approx(hidden, rel=1e-2)
    with torch.no_grad():
        net[4].weight.fill_(0.5)  # type: ignore[union-attr]  # the last layer left zero, and counts
    value = norms()
    assert value.item() == pytest.approx(hidden + 0.5 * 7**0.5, rel=1e-2)
    value.backward()
    assert all(layer.weight.grad is not None and bool(layer.weight.grad.any()) for layer in (net[0], net[2], net[4]))
