"""Energy gain: what the energy is worth, in nats of held-out data, and whether the shipped samples are of its law.

energy_gain    mean over test data of log h(x) - log r(x), r the model without the correction (its base):

                   log h(x) - log r(x) = -E(x) - log Z                                      where E reads x alone
                                         log E_{z ~ r(z | x)} exp(-E(x, z)) - log Z         where it reads z

               It needs no chain. The second line is by importance weights with draws from q(z | x), the same for
               numerator and denominator; as a difference of two bounds it is an estimate. Z by weights or by annealing
               (evaluation/energy_law.py), whose bracket the settings have: `pessimistic` and `optimistic` are the gain
               with either end. Since log of an estimated Z is too small on average, the gain may be optimistic.

energy_shift   mean E of the samples that were measured, less the mean of E under h: 0 where chains reach the density
               that the model claims. Above 0 they stop short of it; below, they went where h has no more mass.

Where chains leave codes alone, they follow another law than h (models/noise_space.py), and a shift is expected.
"""

import math

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.importance import base_tilt, bounded_rows, proposals
from vaebm.evaluation.metric import Given, Metric
from vaebm.evaluation.quantity import Quantity
from vaebm.evaluation.stored_draws import energies_of_data
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, NoiseSpaceModel


def has_gain(subject: str, model: Model) -> bool:
    """Whether there is an energy beyond the base, and this is the model with it."""
    return isinstance(model, NoiseSpaceModel) and model.corrects and subject == model.subjects[0]


class EnergyGain(Metric):
    """Of held-out data; the error is over these and over log Z."""

    quantities = (
        Quantity("energy_gain", "gain of the energy", "the log-likelihood that the energy adds", "nats", "higher"),
    )
    needs = frozenset({"law"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return has_gain(subject, model)

    def measure(self, given: Given) -> list[Measurement]:
        if (law := given.law) is None:
            return []
        values = gains(given) - law.log_z
        mean, of_data = float(values.mean()), float(values.std()) / math.sqrt(len(values))
        settings = {
            "split": "test",
            "method": law.method,
            "ess": law.ess,
            "pessimistic": mean + law.log_z - law.upper,
            "optimistic": mean + law.log_z - law.lower,
        }
        found = Measurement("energy_gain", mean, math.hypot(of_data, law.stderr), len(values), settings)
        return [found]


@torch.no_grad()
def gains(given: Given) -> Tensor:
    """log h - log r of test data up to log Z, (n,) float64."""
    model, test = given.model, given.data.test
    assert isinstance(model, NoiseSpaceModel)
    if not model.energy_net.correction.reads_z:
        energies = energies_of_data(model, test.batch(torch.arange(min(len(test), 10_000))).x, given.seed)
        assert energies is not None
        return -energies.double()
    parts = []
    for proposed in proposals(model, test, bounded_rows(test, given.data.shape), given.seed):
        log_weights = proposed.log_weights + base_tilt(model, proposed.z)
        energy = model.energy_over_base(proposed.x, proposed.z).double().reshape(log_weights.shape)
        parts.append((log_weights - energy).logsumexp(1) - log_weights.logsumexp(1))
    return torch.cat(parts).cpu()


class EnergyShift(Metric):
    """Of the samples that were measured, or some of them."""

    quantities = (
        Quantity(
            "energy_shift",
            "energy shift",
            "the mean energy of samples less that of the model's law",
            "nats",
            "held_out",
        ),
    )
    needs = frozenset({"energies"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return isinstance(model, NoiseSpaceModel) and model.corrects and subject in (model.subjects[0], "start")

    def measure(self, given: Given) -> list[Measurement]:
        law, energies = given.law, given.energies
        assert energies is not None
        if law is None:
            return []
        shift = float(energies.double().mean()) - law.mean_energy
        stderr = math.hypot(float(energies.std()) / math.sqrt(len(energies)), law.mean_stderr)
        return [Measurement("energy_shift", shift, stderr, len(energies), {"method": law.method, "ess": law.ess})]
