"""Drift: how far one step of the optimizer moves the energy of the same data.

    drift = standard deviation over x of  E_after(x) - E_before(x),      drift_scale = that of E_after(x)       in nats

over a few held-out data that stay the same, or training data where none are held out. What is common to all energies is
left out, since most losses leave it free. An energy that learns moves by a small part of its own scale; one that a
learning rate throws about forgets in a step or two what it knew, although its loss and its gap may look as before.

That is so in contrastive divergence, whose loss means nothing. A logistic loss tells of it by itself, and a healthy
density ratio moves a young energy by two fifths of its scale (MNIST, the first hundred iterations).
"""

import torch
from torch import Tensor

from vaebm.energy import TotalEnergy
from vaebm.training.estimators.validation import fixed_data
from vaebm.training.stage import Training

EVERY = 15  # iterations, of which one is looked at
ROWS = 16


class Drift:
    """Looks at the energy of a fixed batch, which follows from the seed."""

    def __init__(self, training: Training, energy: TotalEnergy) -> None:
        self.training, self.energy = training, energy
        generator = torch.Generator(training.engine.device).manual_seed(training.seed)
        (self.batch,) = fixed_data(training, energy, ROWS, generator)

    @torch.no_grad()
    def energies(self) -> Tensor:
        """Of the batch as they are now, (ROWS,)."""
        with self.training.model.autocast():
            energies: Tensor = self.energy(*self.batch).float()
        return energies

    def since(self, before: Tensor) -> dict[str, float]:
        """What has become of them, for the log and the divergence monitor."""
        after = self.energies()
        return {
            "drift": float((after - before).std(correction=0)),
            "drift_scale": float(after.std(correction=0)),
        }
