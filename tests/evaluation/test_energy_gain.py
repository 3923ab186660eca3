"""Bounds of likelihoods, and what an energy is worth, against a model whose densities are known in closed form.

z ~ N(0, I), x = W z + b + s eps, E(x) = lam |x - c|^2 / 2 or E(x, z) = E(x) + mu . z, q(z | x) the exact posterior:
then every importance weight is p(x), and the bound is no bound but the value.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaebm.data import DataSet
from vaebm.data.splits import Split
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import Energy, MixtureEnergy
from vaebm.evaluation import Given, Metric, energy_law
from vaebm.evaluation.energy_gain import EnergyGain, EnergyShift
from vaebm.evaluation.energy_law import EnergyLaw, by_weights
from vaebm.evaluation.importance import LogLikelihoodLower
from vaebm.metrics.measurement import Measurement, difference
from vaebm.models import VAEBM, VAEBMSettings
from vaebm.progress import silent

DIM, LATENT, LAM = 3, 2, 0.7
CENTRE, TILT = torch.tensor([0.8, -0.6, 0.3]), torch.tensor([0.4, -0.7])
EYE = torch.eye(DIM, dtype=torch.float64)


class OnData(Energy):
    reads_x = True

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        return 0.5 * LAM * (x - CENTRE).square().sum(1)


class OnCodes(Energy):
    """mu . z: linear, so that the codes' law moves."""

    reads_z = True

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert z is not None
        return z @ TILT


class Posterior(nn.Module):
    """The encoder that gives the exact posterior of a linear-Gaussian model: mean and log standard deviation."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: float) -> None:
        super().__init__()
        precision = torch.eye(LATENT) + weight.T @ weight / scale**2
        assert torch.allclose(precision, precision.diag().diag(), atol=1e-6)
        self.gain, self.bias = torch.linalg.inv(precision) @ weight.T / scale**2, bias
        self.log_scale = -0.5 * precision.diag().log()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([(x - self.bias) @ self.gain.T, self.log_scale.expand(len(x), -1)], 1)


class Case:
    """A model with a mixture of one Gaussian on its codes, and what is true of it."""

    def __init__(self, **terms: Energy) -> None:
        recipe: dict[str, Any] = {"vae": {"kind": "mlp", "latent_dim": LATENT, "hidden": [4]}, "energy": {}}
        settings = VAEBMSettings.model_validate(recipe | {"code_mixture": {"components": 1}})
        vae = settings.build((DIM,), torch.Generator().manual_seed(0)).vae
        weight = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.0, 0.0]])  # orthogonal columns: the posterior is diagonal
        bias = torch.tensor([0.2, -0.1, 0.4])
        vae.decoder = nn.Linear(LATENT, DIM)
        with torch.no_grad():
            vae.decoder.weight.copy_(weight)
            vae.decoder.bias.copy_(bias)
        scale = float(vae.decode(torch.zeros(1, LATENT)).gaussian.scale.detach())
        vae.encoder = Posterior(weight, bias, scale)
        mixture = GaussianMixture.standard(1, LATENT)
        with torch.no_grad():
            mixture.means.copy_(torch.tensor([[0.5, -0.2]]))
        self.model = VAEBM(vae, terms, settings, mixture=mixture)
        self.weight, self.bias = weight.double(), bias.double()
        self.covariance = self.weight @ self.weight.T + scale**2 * EYE
        self.vae = MultivariateNormal(self.bias, self.covariance)
        self.mixed = MultivariateNormal(self.bias + self.weight @ torch.tensor([0.5, -0.2]).double(), self.covariance)

    def with_energy(self, law: MultivariateNormal) -> tuple[MultivariateNormal, float]:
        """h for a law r of x and the energy on x, and log Z."""
        covariance = law.covariance_matrix
        precision = torch.linalg.inv(covariance) + LAM * EYE
        mean = torch.linalg.solve(precision, torch.linalg.solve(covariance, law.mean) + LAM * CENTRE.double())
        log_z = MultivariateNormal(law.mean, covariance + EYE / LAM).log_prob(CENTRE.double())
        return MultivariateNormal(mean, precision_matrix=precision), float(log_z + 1.5 * math.log(2 * math.pi / LAM))


@pytest.fixture(scope="module")
def data() -> DataSet:
    splits = {
        name: Split(torch.randn(300, DIM, generator=torch.Generator().manual_seed(i))) for i, name in enumerate("ab")
    }
    return DataSet("points", {"train": splits["a"], "test": splits["b"]}, "Points.")


def measured(metric: Metric, case: Case, data: DataSet, subject: str, **given: Any) -> Measurement:
    assert metric.applies(subject, data, case.model)
    (found,) = metric.measure(Given(subject, data, case.model, 0, **given))
    return found


def test_with_the_exact_posterior_the_bound_is_the_log_likelihood(data: DataSet) -> None:
    case = Case()
    points = data.test.all().double()
    for subject, law in (("vae", case.vae), ("vae_mixture", case.mixed)):
        found = measured(LogLikelihoodLower(), case, data, subject)
        # The mixture's weights vary: a hundred proposals leave a bias that is small beside its error.
        assert found.value == pytest.approx(float(law.log_prob(points).mean()), abs=1e-4 if subject == "vae" else 0.02)
        assert found.n == 300


def test_a_base_is_bounded_with_its_normaliser(data: DataSet) -> None:
    term = MixtureEnergy(GaussianMixture.standard(1, LATENT), nn.Sequential(nn.Linear(LATENT, 1)), least=-20.0)
    with torch.no_grad():
        for p, value in zip(term.correction.parameters(), (TILT[None], torch.tensor([0.3])), strict=True):  # type: ignore[union-attr]
            p.copy_(value)
    case = Case(image=OnData(), latent=term)
    # exp(-mu . z) of N(0, I) is N(-mu, I), whose normaliser is exp(|mu|^2 / 2 - 0.3).
    assert term.log_normaliser(torch.Generator().manual_seed(0)) == pytest.approx(
        float(TILT.square().sum()) / 2 - 0.3, abs=0.02
    )
    exact = MultivariateNormal(case.bias - case.weight @ TILT.double(), case.covariance)
    found = measured(LogLikelihoodLower(), case, data, "start")
    assert found.value == pytest.approx(float(exact.log_prob(data.test.all().double()).mean()), abs=0.04)


@pytest.mark.parametrize("method", ["weights", "annealing"])
def test_the_law_of_an_energy_is_the_closed_form(method: str, monkeypatch: pytest.MonkeyPatch, data: DataSet) -> None:
    if method == "annealing":
        monkeypatch.setattr(energy_law, "MIN_ESS", 1e9)
    case = Case(image=OnData())
    h, log_z = case.with_energy(case.vae)
    law = energy_law.energy_law(case.model, 0, silent())
    assert law is not None
    assert law.method == method
    assert abs(law.log_z - log_z) < 4 * law.stderr < 0.3
    assert law.lower <= log_z <= law.upper
    mean = 0.5 * LAM * float((h.mean - CENTRE.double()).square().sum() + h.covariance_matrix.trace())
    assert abs(law.mean_energy - mean) < 4 * law.mean_stderr < 0.8
    gain = measured(EnergyGain(), case, data, "vaebm", law=lambda: law)
    points = data.test.all().double()
    assert gain.value == pytest.approx(
        float((h.log_prob(points) - case.vae.log_prob(points)).mean()), abs=4 * law.stderr
    )
    assert gain.settings["pessimistic"] <= gain.value <= gain.settings["optimistic"]


def test_the_gain_of_an_energy_that_reads_codes(data: DataSet) -> None:
    """exp(-mu . z) moves the codes' law to N(-mu, I), so the law of x is known."""
    case = Case(joint=OnCodes())
    log_z = float(TILT.square().sum()) / 2
    law = EnergyLaw(log_z, 0.0, log_z, log_z, 0.0, 0.0, "weights", 1e4)
    moved = MultivariateNormal(case.bias - case.weight @ TILT.double(), case.covariance)
    points = data.test.all().double()
    exact = float((moved.log_prob(points) - case.vae.log_prob(points)).mean())
    found = measured(EnergyGain(), case, data, "vaebm", law=lambda: law)
    assert found.value == pytest.approx(exact, abs=0.02)


def test_the_shift_is_of_the_samples_against_the_law(data: DataSet) -> None:
    case = Case(image=OnData())
    law = by_weights(torch.full((1000,), 2.0, dtype=torch.float64))
    assert (law.log_z, law.mean_energy, law.ess) == pytest.approx((-2.0, 2.0, 1000.0))
    energies = 2.5 + torch.randn(400, generator=torch.Generator().manual_seed(0))
    found = measured(EnergyShift(), case, data, "vaebm", law=lambda: law, energies=energies)
    assert abs(found.value - 0.5) < 4 * found.stderr < 0.3


def test_without_an_energy_nothing_is_claimed(data: DataSet) -> None:
    case = Case(image=OnData())
    for metric in (EnergyGain(), EnergyShift()):
        assert not metric.applies("vae", data, case.model)
        assert not metric.applies("vaebm", data, Case().model)


def test_numbers_of_the_same_data_are_compared_as_pairs(data: DataSet) -> None:
    case = Case(image=OnData())
    plain, mixed = (measured(LogLikelihoodLower(), case, data, subject) for subject in ("vae", "vae_mixture"))
    points = data.test.all().double()
    each = case.mixed.log_prob(points) - case.vae.log_prob(points)
    gain, stderr = difference(mixed, plain)
    assert gain == pytest.approx(float(each.mean()), abs=0.02)
    assert stderr == pytest.approx(float(each.std()) / math.sqrt(300), rel=0.4)
    unpaired = difference(mixed.with_settings(influence_of_data=None), plain)
    assert unpaired[0] == gain
    assert unpaired[1] == pytest.approx(math.hypot(mixed.stderr, plain.stderr))
