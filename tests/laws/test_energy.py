"""Laws of every energy term: a number a row, 0 at the start, weights of the generator, and the same when folded."""

import pytest
import torch
from torch import Tensor

from vaebm.distributions.gaussian import standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import (
    DATA_ENERGIES,
    JOINT_ENERGIES,
    LATENT_ENERGIES,
    CorrectionSettings,
    Energy,
    EnsembleEnergySettings,
    FlowEnergy,
    FlowSettings,
    JointMLPSettings,
    JointResidualSettings,
    LatentEnergy,
    MixtureEnergy,
    MixtureEnergySettings,
    MLPEnergySettings,
    ResidualEnergySettings,
    SplineFlowEnergy,
    SplineFlowSettings,
    TotalEnergy,
)
from vaebm.nn.folding import folded
from vaebm.nn.weight_norm import initialise_from_data, weight_norm_layers

LATENT_DIM = 3


def fitted() -> GaussianMixture:
    generator = torch.Generator().manual_seed(5)
    root = 0.3 * torch.randn(4, LATENT_DIM, LATENT_DIM, generator=generator)
    factors = torch.linalg.cholesky(root @ root.mT + 0.1 * torch.eye(LATENT_DIM))
    return GaussianMixture(torch.full((4,), 0.25).log(), torch.randn(4, LATENT_DIM, generator=generator), factors)


def latent(
    settings: MixtureEnergySettings | CorrectionSettings | FlowSettings | SplineFlowSettings, generator: torch.Generator
) -> LatentEnergy:
    return settings.build(LATENT_DIM, 4, generator)


IMAGE: dict[str, tuple[tuple[int, ...], MLPEnergySettings | ResidualEnergySettings]] = {
    "mlp_points": ((2,), MLPEnergySettings(hidden=[16, 16])),
    "mlp_fourier": ((2,), MLPEnergySettings(hidden=[16], fourier_features=8)),
    "mlp_images": ((3, 5, 4), MLPEnergySettings(hidden=[16])),
    "residual": ((1, 8, 8), ResidualEnergySettings(stem=8, widths=[8, 12], halve=[0])),
    "residual_odd": ((3, 9, 9), ResidualEnergySettings(stem=4, widths=[8, 8], halve=[0, 1])),
    "residual_wide": ((3, 20, 32), ResidualEnergySettings(stem=8, widths=[8], halve=[])),
    "ensemble": ((3,), EnsembleEnergySettings(members=2, member=MLPEnergySettings(hidden=[16]))),
}
LATENT = {
    "mixture": MixtureEnergySettings(),
    "correction": CorrectionSettings(hidden=[16, 16]),
    "flow": FlowSettings(width=16, blocks=2, steps=3),
    "spline_flow": SplineFlowSettings(hidden=[16], couplings=2, bins=4),
}
JOINT: dict[str, tuple[tuple[int, ...], JointMLPSettings | JointResidualSettings]] = {
    "joint_mlp": ((2,), JointMLPSettings(hidden=[16, 16], fourier_features=8)),
    "joint_residual": ((1, 8, 8), JointResidualSettings(stem=8, widths=[8, 12], halve=[0], hidden=[16])),
}
ZERO = [*IMAGE, *JOINT]  # exactly, before training
NETS = [*ZERO, "correction", "flow", "spline_flow"]
NAMES = [*ZERO, *LATENT]


def build(name: str, seed: int = 0) -> Energy:
    generator = torch.Generator().manual_seed(seed)
    if name in IMAGE:
        shape, settings = IMAGE[name]
        return settings.build(shape, generator)
    if name in JOINT:
        shape, joint = JOINT[name]
        return joint.build(shape, LATENT_DIM, generator)
    return latent(LATENT[name], generator)


def trained(name: str) -> Energy:
    """As training may leave it: initialised from data, its last layer no longer 0."""
    energy = build(name)
    if weight_norm_layers(energy):
        initialise_from_data(energy, *pair(energy, inputs(name, 32)))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter_name, weight in energy.named_parameters():
            if parameter_name.split(".")[-2] == "out" or parameter_name.startswith("correction.2"):
                weight.copy_(torch.randn(weight.shape, generator=generator))
            if parameter_name.startswith(("velocity.outer", "velocity.last", "layers")):
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    if isinstance(energy, LatentEnergy):
        energy.mixture.load_state_dict(fitted().state_dict())
    return energy


def inputs(name: str, n: int = 5, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = IMAGE[name][0] if name in IMAGE else (LATENT_DIM,)
    if name in JOINT:
        shape = (torch.Size(JOINT[name][0]).numel() + LATENT_DIM,)
    return torch.randn(n, *shape, generator=generator).clamp(-2, 2)


def of(energy: Energy, value: Tensor) -> Tensor:
    """The term, of what it reads."""
    result: Tensor = energy(*pair(energy, value))
    return result


def pair(energy: Energy, value: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """x and z as the term reads them; of a joint one `value` holds both, flat, z last."""
    if energy.reads_x and energy.reads_z:
        x, z = value[:, :-LATENT_DIM], value[:, -LATENT_DIM:]
        return (x if x.shape[1] == 2 else x.unflatten(1, (1, 8, 8))), z
    return (value, None) if energy.reads_x else (None, value)


def test_every_energy_is_tested() -> None:
    kinds = {type(settings) for _, settings in IMAGE.values()} | {type(settings) for settings in LATENT.values()}
    kinds |= {type(settings) for _, settings in JOINT.values()}
    assert kinds == {*DATA_ENERGIES.values(), *LATENT_ENERGIES.values(), *JOINT_ENERGIES.values()}


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_a_number_a_row_each_on_its_own(name: str) -> None:
    energy, value = trained(name), inputs(name)
    result = of(energy, value)
    assert result.shape == (5,)
    assert result.dtype == torch.float32
    assert result.std() > 0
    torch.testing.assert_close(of(energy, value[2:3]), result[2:3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_exactly_zero_at_the_start(name: str) -> None:
    """Nets by their last layer; the mixture because it is N(0, I) until it has been fitted."""
    result = of(build(name), inputs(name))
    if name in ZERO:
        assert torch.equal(result, torch.zeros(5))
    else:
        torch.testing.assert_close(result, torch.zeros(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_gradient_reaches_every_weight_once_the_last_layer_moves(name: str) -> None:
    energy = trained(name)
    of(energy, inputs(name, 20)).square().sum().backward()
    for parameter_name, weight in energy.named_parameters():
        assert weight.grad is not None, parameter_name
        assert weight.grad.isfinite().all(), parameter_name
        assert weight.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", NETS)
def test_at_the_start_the_last_layer_learns(name: str) -> None:
    energy = build(name)
    of(energy, inputs(name)).sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in energy.parameters())


@pytest.mark.parametrize("name", NETS)
def test_its_weights_are_the_generators_alone(name: str) -> None:
    first = build(name)
    torch.rand(7)  # moves the global state between the two
    second, other = build(name), build(name, seed=1)
    state = first.state_dict()
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in state.items())
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("name", NAMES)
def test_folded_it_is_the_same_function_of_its_input(name: str) -> None:
    energy, value = trained(name), inputs(name).requires_grad_()
    result = of(energy, value)
    (gradient,) = torch.autograd.grad(result.sum(), value)
    with folded(energy):
        inside = of(energy, value)
        (gradient_inside,) = torch.autograd.grad(inside.sum(), value)
    torch.testing.assert_close(inside, result)
    torch.testing.assert_close(gradient_inside, gradient)


@pytest.mark.parametrize("name", NAMES)
def test_its_gradient_is_its_slope(name: str) -> None:
    energy, value = trained(name), inputs(name).requires_grad_()
    towards = torch.randn(value.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(of(energy, value).sum(), value)
    h = 1e-2
    with torch.no_grad():
        slope = (of(energy, value + h * towards) - of(energy, value - h * towards)) / (2 * h)
    torch.testing.assert_close((gradient * towards).flatten(1).sum(1), slope, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", NAMES)
def test_an_autocast_rounds_the_inside_and_not_the_energy(name: str) -> None:
    energy, value = trained(name), inputs(name, 200)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = of(energy, value)
    exact = of(energy, value)
    assert low.dtype == torch.float32
    assert ((low - exact).abs() <= 0.05 * exact.std() + 0.01 * exact.abs()).all()
    if name in ("mixture", "flow", "spline_flow"):
        assert torch.equal(low, exact)
    # Energies with eight bits would mostly coincide with their own rounding.
    assert (low == low.bfloat16().float()).double().mean() < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_what_it_reads_may_not_be_missing(name: str) -> None:
    energy = build(name)
    x, z = pair(energy, inputs(name))
    with pytest.raises(ValueError, match=r"energy"):
        energy(None if energy.reads_x else inputs(name), z if energy.reads_x else None)
    if energy.reads_x and energy.reads_z:
        with pytest.raises(ValueError, match=r"energy"):
            energy(x, None)


@pytest.mark.parametrize("name", NAMES)
def test_evaluating_it_draws_nothing(name: str) -> None:
    energy = build(name)
    before = torch.random.get_rng_state()
    of(energy, inputs(name))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", LATENT)
def test_a_latent_energy_turns_the_prior_into_its_own_law_of_codes(kind: str) -> None:
    """p(z) exp(-E_z(z)) = mix(z), times exp(-net(z)) where there is one, or the mixture carried."""
    energy, z = trained(kind), inputs(kind, 50)
    assert isinstance(energy, LatentEnergy)
    expected = (energy if isinstance(energy, FlowEnergy | SplineFlowEnergy) else energy.mixture).log_prob(z)
    if isinstance(energy, MixtureEnergy) and energy.correction is not None:
        expected = expected - energy.net(z)
    torch.testing.assert_close(standard_log_prob(z) - energy(None, z), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("image", [None, *IMAGE])
@pytest.mark.parametrize("kind", [None, *LATENT])
def test_the_total_is_the_sum_of_its_terms(image: str | None, kind: str | None) -> None:
    first, second = trained(image) if image else None, trained(kind) if kind else None
    assert first is None or first.reads_x
    assert second is None or isinstance(second, LatentEnergy)
    total = TotalEnergy({name: term for name, term in (("image", first), ("latent", second)) if term is not None})
    x, z = inputs(image or "mlp_points"), inputs("mixture")
    expected = torch.zeros(5)
    if first is not None:
        expected = expected + first(x, None)
    if second is not None:
        expected = expected + second(None, z)
    torch.testing.assert_close(total(x, z), expected)
    assert (total.reads_x, total.reads_z) == (image is not None, kind is not None)
    if image is None:
        torch.testing.assert_close(total(None, z), expected)
    if kind is None:
        torch.testing.assert_close(total(x), expected)
