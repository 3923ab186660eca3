"""The mean of several nets that learn apart."""

import math

import pytest
import torch
from torch import Tensor

from vaebm.energy import DATA_ENERGIES, DataEnergy, EnsembleEnergySettings, MLPEnergySettings, TotalEnergy
from vaebm.energy.ensemble import EnsembleEnergy


def ensemble(members: int = 3) -> EnsembleEnergy:
    settings = EnsembleEnergySettings(members=members, member=MLPEnergySettings(hidden=[8]))
    energy = settings.build((2,), torch.Generator().manual_seed(0))
    assert isinstance(energy, EnsembleEnergy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in energy.parameters():  # the last layers begin at zero
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return energy


def points(n: int = 7) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(2))


def test_a_recipe_may_name_it() -> None:
    tree = {"kind": "ensemble", "members": 2, "member": {"kind": "mlp", "hidden": [4]}}
    settings = DATA_ENERGIES.adapter.validate_python(tree)
    assert settings.member.hidden == [4]
    assert len(settings.build((2,), torch.Generator().manual_seed(0)).members) == 2


def test_it_is_the_mean_of_nets_that_begin_apart() -> None:
    energy, x = ensemble(), points()
    values = [member(x) for member in energy.members]
    torch.testing.assert_close(energy(x), torch.stack(values).mean(0))
    assert all(not torch.allclose(values[0], other) for other in values[1:])


def test_each_net_learns_from_its_own_rows_alone() -> None:
    energy, x = ensemble(), points()
    values = TotalEnergy({"image": energy}).by_member(x)
    for i in range(len(x)):
        torch.testing.assert_close(values[i], energy.members[i % 3](x[i : i + 1])[0])
    values[1::3].sum().backward()
    moved = [any(p.grad is not None and bool(p.grad.any()) for p in member.parameters()) for member in energy.members]
    assert moved == [False, True, False]


def test_fewer_rows_than_nets() -> None:
    assert ensemble(3).by_member(points(2)).shape == (2,)


class Constant(DataEnergy):
    """Net i has energy `value` at points with x_0 > 0, else 0."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def of_x(self, x: Tensor) -> Tensor:
        return self.value * (x[:, 0] > 0)


@pytest.mark.parametrize("values", [(1.0, -2.0), (0.5, 0.5), (3.0, 0.0)])
def test_the_gain_of_the_mean_is_at_least_the_mean_of_the_gains(values: tuple[float, float]) -> None:
    """Half of the base and a share of the data have x_0 > 0: everything is in closed form."""
    share = 0.3

    def gain(value: float) -> float:
        return -share * value - math.log((1 + math.exp(-value)) / 2)

    energy = EnsembleEnergy([Constant(value) for value in values])
    mean = float(energy(torch.tensor([[1.0, 0.0]]))[0])
    assert mean == pytest.approx(sum(values) / 2)
    assert gain(mean) >= sum(map(gain, values)) / 2 - 1e-12
