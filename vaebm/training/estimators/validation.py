"""Validation: the gain of the energy on data that it does not learn from, which says when it has learned enough.

    gain = -mean E(x, z) over validation data - log mean exp(-E) over exact draws of the base          in nats
    share = (sum w)^2 / (B sum w^2),      w = exp(-E) of the B draws

It is what the correction adds to the base's log-likelihood, up to the error of log Z by importance: where the draws'
effective share is small, that is too low, and the gain flatters. The same draws serve every measurement, so two gains
differ by the energies alone. The weights with the highest gain so far are kept, the average where there is one.
"""

import math

import torch
from torch import Tensor

from vaebm.energy import TotalEnergy
from vaebm.models import CHAINS_AT_ONCE
from vaebm.sampling.resampling import effective_sample_size
from vaebm.training.best_weights import BestWeights
from vaebm.training.estimators.negatives import Pair, decoded
from vaebm.training.optimizer import ExponentialAverage
from vaebm.training.stage import Training

BASE_DRAWS = 16_384
MAX_DATA = 2000


class Validation:
    """Measures the gain of `energy` on the validation split, and keeps the best weights.

    Data, their codes and the base's draws follow from the seed, so they are the same after a resume and in every
    process.

    Raises:
        ValueError: the data have no validation split.
    """

    def __init__(self, training: Training, energy: TotalEnergy) -> None:
        if training.validation is None:
            raise ValueError("there is no validation split")
        self.training, self.energy = training, energy
        self.best = BestWeights(energy)
        generator = torch.Generator(training.engine.device).manual_seed(training.seed)
        self.data, self.draws = fixed_data(training, energy, MAX_DATA, generator), self._draws(generator)

    @torch.no_grad()
    def measure(self, average: ExponentialAverage) -> dict[str, float]:
        """The gain of the averaged weights and the draws' share, for the log."""
        with average.in_place():
            log_weights = -self._energies(self.draws).double()
            log_z = float(torch.logsumexp(log_weights, 0)) - math.log(len(log_weights))
            gain = -float(self._energies(self.data).double().mean()) - log_z
            self.best.offer(gain)
        share = float(effective_sample_size(log_weights)) / len(log_weights)
        return {"validation_gain": gain, "validation_share": share}

    def _energies(self, pairs: list[Pair]) -> Tensor:
        with self.training.model.autocast():
            return torch.cat([self.energy(*pair).float() for pair in pairs])

    @torch.no_grad()
    def _draws(self, generator: torch.Generator) -> list[Pair]:
        model = self.training.model
        position = model.sample_base(BASE_DRAWS, generator)
        with model.frozen(), model.autocast():
            return [decoded(model, part) for part in position.split(CHAINS_AT_ONCE)]


@torch.no_grad()
def fixed_data(training: Training, energy: TotalEnergy, n: int, generator: torch.Generator) -> list[Pair]:
    """The first n validation data, or training data where there are none, as the energy sees them."""
    model, split = training.model, training.validation or training.data
    pairs = []
    for rows in torch.arange(min(len(split), n), device=generator.device).split(CHAINS_AT_ONCE):
        x, z = split.batch(rows, generator).x, None
        if energy.reads_z:
            with model.autocast():
                z = model.vae.infer(x, generator).z
        pairs.append(Pair(model.add_noise(x, generator) if energy.reads_x else None, z))
    return pairs
