"""The paper's residual energy: its initialisation, its pooling, its widths."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from vaebm.energy import ResidualEnergySettings
from vaebm.energy.base import linear_from_zero
from vaebm.energy.penalties import energy_square
from vaebm.energy.residual import ResidualEnergy
from vaebm.errors import InputError
from vaebm.nn.weight_norm import initialise_from_data, weight_norm_layers


def energy(**settings: object) -> ResidualEnergy:
    chosen = ResidualEnergySettings.model_validate({"stem": 8, "widths": [8, 12, 12], "halve": [1], **settings})
    built = chosen.build((3, 10, 8), torch.Generator().manual_seed(0))
    assert isinstance(built, ResidualEnergy)
    return built


def images(n: int = 16, height: int = 10, width: int = 8) -> Tensor:
    return 2 * torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1)) - 1


def test_from_data_every_layer_starts_standard() -> None:
    net, x = energy(), images()
    initialise_from_data(net, x)
    seen: list[Tensor] = []
    for layer in weight_norm_layers(net):
        layer.register_forward_hook(lambda _, __, y: seen.append(y.movedim(1, 0).flatten(1)))
    net(x)
    # Stem, two in each block, and one where the width changes.
    assert len(seen) == 1 + 2 * 3 + 1
    for y in seen:
        torch.testing.assert_close(y.std(1), torch.ones(len(y)), rtol=1e-3, atol=0)
        torch.testing.assert_close(y.mean(1), torch.zeros(len(y)), rtol=0, atol=1e-4)


def test_it_is_a_linear_function_of_sums_over_pixels() -> None:
    net, x = energy(), images(2)
    initialise_from_data(net, images())
    with torch.no_grad():
        net.out.weight.normal_(generator=torch.Generator().manual_seed(2))
    pooled = net.act(net.blocks(net.stem(x))).sum((2, 3))
    torch.testing.assert_close(net(x), (pooled @ net.out.weight.T + net.out.bias).squeeze(1))


def test_it_takes_images_of_another_size_and_any_memory_layout() -> None:
    net = energy()
    assert net(images(2, 13, 21)).shape == (2,)
    with torch.no_grad():
        net.out.weight.fill_(0.1)
    x = images(2)
    torch.testing.assert_close(net(x), net(x.contiguous(memory_format=torch.channels_last)))


def test_halving_happens_in_the_blocks_that_are_named() -> None:
    halves = [block.halve for block in energy(halve=[0, 2]).blocks]
    assert halves == [True, False, True]
    assert energy(halve=[0, 2]).blocks(torch.zeros(1, 8, 10, 8)).shape == (1, 12, 3, 2)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="only blocks 0 to 2"):
        ResidualEnergySettings(widths=[8, 8, 8], halve=[3])
    with pytest.raises(InputError, match="kind=mlp"):
        ResidualEnergySettings().build((2,), torch.Generator().manual_seed(0))


def test_the_last_layer_is_zero_and_full_precision() -> None:
    layer = linear_from_zero(4)
    assert isinstance(layer, nn.Linear)
    assert not layer.weight.any()
    assert not layer.bias.any()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    x = torch.tensor([[100.0, 0.123, 0.0456, 0.00789]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), x.sum(1, keepdim=True))
        assert layer(x.bfloat16()).dtype == torch.float32


def test_energy_square_is_the_sum_of_both_mean_squares() -> None:
    value = energy_square(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0, -1.0]))
    assert float(value) == pytest.approx(5.0 + 3.0)
