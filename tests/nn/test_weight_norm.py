"""Weight normalisation: its formula, its initialisation from data, and its folding."""

import pytest
import torch
from torch import Tensor, nn

from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.folding import folded
from vaebm.nn.initialise import initialise
from vaebm.nn.residual import ResidualBlock
from vaebm.nn.weight_norm import (
    WeightNorm,
    WeightNormConv2d,
    WeightNormLinear,
    initialise_from_data,
    weight_norm_layers,
)


def images(*shape: int, seed: int = 0) -> Tensor:
    """Not centred and not of unit variance."""
    return 0.3 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    net = nn.Sequential(
        WeightNormConv2d(3, 8, 3),
        ResidualBlock(8, 16, halve=True),
        ResidualBlock(16, 16, halve=False),
        LipschitzSwish(),
        nn.Flatten(),
        WeightNormLinear(16 * 5 * 4, 6),
    )
    initialise(net, torch.Generator().manual_seed(1))
    return net


def scramble(net: nn.Module) -> None:
    """Gains and biases as training may leave them."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in weight_norm_layers(net):
            layer.gain.copy_(torch.randn(layer.gain.shape, generator=generator))
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))


LAYERS = [WeightNormLinear(5, 4), WeightNormConv2d(3, 4, 3), WeightNormConv2d(3, 4, 1)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}{tuple(layer.weight.shape)}")
def test_the_gain_is_the_length_of_each_outputs_weights_whatever_v(layer: WeightNorm) -> None:
    scramble(layer)
    weight = layer.normalised_weight()
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), layer.gain.abs())
    v = layer.weight.flatten(1)
    cosine = torch.cosine_similarity(weight.flatten(1), v * layer.gain.sign()[:, None], dim=1)
    torch.testing.assert_close(cosine, torch.ones(4))
    with torch.no_grad():
        layer.weight.mul_(7.0)
    torch.testing.assert_close(layer.normalised_weight(), weight)


def test_layers_apply_their_normalised_weight() -> None:
    linear, conv = WeightNormLinear(5, 4), WeightNormConv2d(3, 4, 3)
    scramble(nn.ModuleList([linear, conv]))
    x, y = images(2, 5), images(2, 3, 6, 7)
    torch.testing.assert_close(linear(x), x @ linear.normalised_weight().T + linear.bias)
    expected = nn.functional.conv2d(y, conv.normalised_weight(), conv.bias, padding=1)
    torch.testing.assert_close(conv(y), expected)


def test_gradients_are_those_of_the_formula() -> None:
    layer = WeightNormLinear(5, 4).double()
    x = images(3, 5).double()

    def by_hand(v: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": v, "gain": gain, "bias": bias}, x)

    leaves = [p.detach().requires_grad_() for p in (layer.weight, layer.gain, layer.bias)]
    assert torch.autograd.gradcheck(by_hand, leaves)


def pre_activations(net: nn.Module, x: Tensor) -> list[Tensor]:
    """What each normalised layer puts out, (outputs, values)."""
    out: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, y: out.append(y.movedim(1, 0).flatten(1)))
        for layer in weight_norm_layers(net)
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    return out


def test_initialised_from_data_every_pre_activation_is_standard() -> None:
    net, x = network(), images(16, 3, 9, 8)
    before = [layer.weight.clone() for layer in weight_norm_layers(net)]
    initialise_from_data(net, x)
    outputs = pre_activations(net, x)
    assert len(outputs) == 7
    for y in outputs:
        torch.testing.assert_close(y.std(1), torch.ones(len(y)), rtol=1e-4, atol=0)
        torch.testing.assert_close(y.mean(1), torch.zeros(len(y)), rtol=0, atol=1e-4)
    for layer, weight in zip(weight_norm_layers(net), before, strict=True):
        assert torch.equal(layer.weight, weight)


def test_it_happens_once_and_a_checkpoint_remembers_that() -> None:
    net = network()
    initialise_from_data(net, images(16, 3, 9, 8))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    initialise_from_data(net, images(16, 3, 9, 8, seed=5))
    other = network()
    other.load_state_dict(state)
    initialise_from_data(other, images(16, 3, 9, 8, seed=6))
    for name, value in state.items():
        assert torch.equal(net.state_dict()[name], value)
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (WeightNormConv2d(1, 4, 3), torch.zeros(8, 1, 5, 5)),
        (WeightNormLinear(3, 4), torch.ones(8, 3)),
        (WeightNormLinear(3, 4), torch.ones(1, 3)),
    ],
    ids=["black_images", "equal_points", "one_point"],
)
def test_an_output_that_does_not_vary_is_centred_and_keeps_its_gain(layer: WeightNorm, x: Tensor) -> None:
    initialise_from_data(layer, x)
    torch.testing.assert_close(layer.gain.detach(), torch.ones(4))
    torch.testing.assert_close(layer(x), torch.zeros_like(layer(x)), rtol=0, atol=1e-6)


def test_an_error_leaves_no_hook_behind() -> None:
    net = network()
    with pytest.raises(RuntimeError):
        initialise_from_data(net, torch.zeros(2, 4, 9, 8))
    assert not any(layer._forward_pre_hooks for layer in net.modules())


def test_folded_is_the_same_function() -> None:
    net, x = network(), images(4, 3, 9, 8).requires_grad_()
    scramble(net)
    (expected,) = torch.autograd.grad(net(x).square().sum(), x)
    with folded(net):
        value = net(x)
        (gradient,) = torch.autograd.grad(value.square().sum(), x)
    torch.testing.assert_close(value, net(x))
    torch.testing.assert_close(gradient, expected)


def test_folded_weights_are_computed_once_and_take_no_gradient() -> None:
    net = network()
    layers = weight_norm_layers(net)
    with folded(net):
        folds = [layer.normalised_weight() for layer in layers]
        assert all(layer.normalised_weight() is fold for layer, fold in zip(layers, folds, strict=True))
        assert not any(fold.requires_grad for fold in folds)
        net(images(2, 3, 9, 8)).sum().backward()
    assert all(layer.weight.grad is None and layer.gain.grad is None for layer in layers)
    assert all(layer.bias.grad is not None for layer in layers)


def test_folding_nests_and_ends_after_an_error() -> None:
    net = network()
    layers = weight_norm_layers(net)
    with folded(net):
        outer = layers[0].fold
        with pytest.raises(KeyError), folded(net):
            raise KeyError
        assert layers[0].fold is outer
        with folded(net[0]):
            pass
        assert layers[0].fold is outer
    assert all(layer.fold is None for layer in layers)
    with pytest.raises(KeyError), folded(net):
        raise KeyError
    assert all(layer.fold is None for layer in layers)


def test_a_part_folded_first_stays_folded_no_longer_than_it_said() -> None:
    net = network()
    first, last = net[0], net[-1]
    with folded(net[0]):
        with folded(net):
            assert last.fold is not None
        assert last.fold is None
        assert first.fold is not None
    assert first.fold is None


def test_a_fold_is_no_part_of_a_checkpoint() -> None:
    net = network()
    names = set(net.state_dict())
    with folded(net):
        assert set(net.state_dict()) == names
