"""The exact log-likelihood of a model whose density is known in closed form: every part of the adapter has to be right.

z ~ N(0, 1), x = W z + b + s eps, E_x(x) = lam |x - c|^2 / 2, E_z(z) = tau |z|^2 / 2, so that h(x) is Gaussian.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaebm.data import GaussiansSettings
from vaebm.energy import Energy
from vaebm.errors import InputError
from vaebm.evaluation import Given, Metric, quadrature
from vaebm.evaluation.likelihood import ELBO, LogLikelihood, LogNormaliser
from vaebm.evaluation.quadrature import integrable, plane_quadrature
from vaebm.metrics import PlaneQuadrature
from vaebm.metrics.measurement import difference
from vaebm.models import VAEBM, VAEBMSettings

LAM, TAU, CENTRE = 0.7, 1.5, torch.tensor([0.8, -0.6])


class OnData(Energy):
    reads_x = True

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        return 0.5 * LAM * (x - CENTRE).square().sum(1)


class OnCodes(Energy):
    reads_z = True

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert z is not None
        return 0.5 * TAU * z.square().sum(1)


class Joint(Energy):
    reads_x = reads_z = True

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        assert z is not None
        return x.sum(1) * z.sum(1)


class Case:
    """A model, the Gaussians of its VAE and of itself, and its log Z."""

    def __init__(self, latent_dim: int, **terms: Energy) -> None:
        settings = VAEBMSettings.model_validate(
            {"vae": {"kind": "mlp", "latent_dim": latent_dim, "hidden": [4]}, "energy": {}}
        )
        generator = torch.Generator().manual_seed(0)
        vae = settings.build((2,), generator).vae
        vae.decoder = nn.Linear(latent_dim, 2)
        with torch.no_grad():
            vae.decoder.weight.copy_(torch.tensor([[1.0, 0.3, 0.1], [-0.5, 0.8, 0.2]])[:, :latent_dim])
            vae.decoder.bias.copy_(torch.tensor([0.2, -0.1]))
        self.model = VAEBM(vae, terms)
        weight, bias = vae.decoder.weight.detach().double(), vae.decoder.bias.detach().double()
        scale = vae.decode(torch.zeros(1, latent_dim)).gaussian.scale.detach().double().expand(1, 2)[0]
        tau, lam = TAU if "codes" in terms else 0.0, LAM if "data" in terms else 0.0
        eye = torch.eye(2, dtype=torch.float64)
        self.vae = MultivariateNormal(bias, weight @ weight.T + scale.square().diag())
        tilted = weight @ weight.T / (1 + tau) + scale.square().diag()
        precision = torch.linalg.inv(tilted) + lam * eye
        mean = torch.linalg.solve(precision, torch.linalg.solve(tilted, bias) + lam * CENTRE.double())
        self.own = MultivariateNormal(mean, precision_matrix=precision)
        self.log_z = -0.5 * latent_dim * math.log(1 + tau)
        if lam:
            self.log_z += MultivariateNormal(bias, tilted + eye / lam).log_prob(CENTRE.double()).item()
            self.log_z += math.log(2 * math.pi / lam)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = partial(PlaneQuadrature, latent_points=81, x_range=(-6.0, 6.0), x_points=201)
    monkeypatch.setattr(quadrature, "PlaneQuadrature", grid)


TERMS: list[dict[str, Energy]] = [{}, {"data": OnData()}, {"codes": OnCodes()}, {"data": OnData(), "codes": OnCodes()}]


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("terms", TERMS)
def test_quadrature_is_the_closed_form_of_the_model(latent_dim: int, terms: dict[str, Energy]) -> None:
    case = Case(latent_dim, **terms)
    points = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    for with_energy, exact, log_z in ((False, case.vae, 0.0), (True, case.own, case.log_z)):
        density = plane_quadrature(case.model, with_energy)
        assert density.log_prob(points) == pytest.approx(exact.log_prob(points.double()), abs=2e-3)
        assert density.log_z == pytest.approx(log_z, abs=1e-4)


def measured(metric: Metric, case: Case, subject: str) -> float:
    data = GaussiansSettings(side=2, train_size=50, test_size=400).load()
    assert metric.applies(subject, data, case.model)
    (found,) = metric.measure(Given(subject, data, case.model, 0))
    assert found.n == 400
    if metric.quantities[0].name == "log_likelihood":
        assert found.settings["method"] == "quadrature"
    return found.value


def test_the_headline_numbers_are_of_the_subject_that_they_name() -> None:
    case = Case(1, data=OnData(), codes=OnCodes())
    points = GaussiansSettings(side=2, train_size=50, test_size=400).load().test.all().double()
    exact = {"vae": case.vae.log_prob(points).mean().item(), "vaebm": case.own.log_prob(points).mean().item()}
    assert abs(exact["vae"] - exact["vaebm"]) > 0.1
    for subject, value in exact.items():
        assert measured(LogLikelihood(), case, subject) == pytest.approx(value, abs=2e-3)
    assert measured(LogNormaliser(), case, "vaebm") == pytest.approx(case.log_z, abs=1e-4)
    assert measured(ELBO(), case, "vae") < exact["vae"]


def test_likelihoods_of_the_same_points_are_compared_as_pairs() -> None:
    case, data = Case(1, data=OnData()), GaussiansSettings(side=2, train_size=50, test_size=400).load()
    own, vae = (LogLikelihood().measure(Given(subject, data, case.model, 0))[0] for subject in ("vaebm", "vae"))
    points = data.test.all().double()
    each = case.own.log_prob(points) - case.vae.log_prob(points)
    gain, stderr = difference(own, vae)
    assert gain == pytest.approx(float(each.mean()), abs=2e-3)
    assert stderr == pytest.approx(float(each.std()) / 20, rel=0.5)
    (truth,) = LogLikelihood().measure(Given("truth", data, case.model, 0))
    assert truth.settings["own_stderr"] == 0.0


def test_where_the_density_is_not_that_of_the_samples_there_is_none() -> None:
    joint = Case(1, joint=Joint()).model
    still = Case(1, data=OnData()).model
    still.update_settings(still.settings.model_copy(update={"fix_codes": True}))
    data = GaussiansSettings(side=2, train_size=50, test_size=400).load()
    for model in (joint, still, Case(3).model):
        assert not integrable(model)
        with pytest.raises(InputError, match="quadrature needs"):
            plane_quadrature(model, with_energy=True)
        assert not LogLikelihood().applies("vaebm", data, model)
        assert LogLikelihood().applies("truth", data, model)
