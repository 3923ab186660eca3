"""Likelihoods of held-out data: the bound of a VAE, and where it is feasible the exact value by quadrature.

elbo             the mean over data and draws from q(z | x) of log p(x, z) - log q(z | x)
log_likelihood   log p(x) of the VAE, log h(x) of the model, log of the truth (metrics/quadrature.py)
log_z            the log-normaliser of the total energy, by quadrature; a correction on codes has a share in it
"""

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.metric import ROWS_AT_ONCE, Given, Metric
from vaebm.evaluation.quadrature import integrable
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, NoiseSpaceModel
from vaebm.vae import elbo

MAX_DATA = 10_000
ELBO_DRAWS = 20


class ELBO(Metric):
    """Of held-out data under the VAE; the error is over data."""

    quantities = (Quantity("elbo", "ELBO", "the ELBO of held-out data", "nats", "higher"),)
    needs = frozenset({"density"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return subject == "vae"

    @torch.no_grad()
    def measure(self, given: Given) -> list[Measurement]:
        model, test = given.model, given.data.test
        assert isinstance(model, NoiseSpaceModel)
        generator = torch.Generator(model.device).manual_seed(given.seed)
        rows = torch.arange(min(len(test), MAX_DATA)).split(ROWS_AT_ONCE)
        batches = [test.batch(part).x.to(model.device) for part in rows]
        draws = [[elbo(model.vae, x, generator).value for _ in range(ELBO_DRAWS)] for x in batches]
        values = torch.cat([torch.stack(bounds).mean(0) for bounds in draws]).double()
        return [mean_of("elbo", values, draws_each=ELBO_DRAWS)]


LOG_LIKELIHOOD = Quantity("log_likelihood", "log-likelihood", "the log-likelihood of held-out points", "nats", "higher")


class LogLikelihood(Metric):
    """Exact, of the truth where it is known, of the VAE and of the model where it can be integrated."""

    quantities = (LOG_LIKELIHOOD,)
    needs = frozenset({"density"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        if subject == "truth":
            return data.truth is not None
        return subject in ("vae", model.subjects[0]) and integrable(model)

    def measure(self, given: Given) -> list[Measurement]:
        points = given.data.test.all()
        if given.subject == "truth":
            assert given.data.truth is not None
            return [mean_of("log_likelihood", given.data.truth.log_prob(points).double())]
        return [given.density.log_likelihood(points).with_settings(split="test")]


class LogNormaliser(Metric):
    """Exact; the error is that of the quadrature."""

    quantities = (Quantity("log_z", "log Z", "the log-normaliser of the energy", "nats"),)
    needs = frozenset({"density"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return subject == model.subjects[0] and integrable(model)

    def measure(self, given: Given) -> list[Measurement]:
        density = given.density
        return [Measurement("log_z", density.log_z, density.error, len(given.data.test), {"method": "quadrature"})]


def mean_of(name: str, values: Tensor, **settings: object) -> Measurement:
    """The mean over held-out data (n,) float64, its standard error, and the influence of the data."""
    stderr = float(values.std() / len(values) ** 0.5)
    found = Measurement(name, float(values.mean()), stderr, len(values), settings | {"split": "test"})
    return found.sharing(values - values.mean(), 0.0)
