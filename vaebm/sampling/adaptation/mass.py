r"""Mass: the diagonal inverse mass, from the variances of the chains.

Welford's update for a batch of B positions with mean $\bar b$ and sum of squared deviations $S_b$, after n positions
with $\bar x$, $S$:

    $$ \delta = \bar b - \bar x, \qquad \bar x \leftarrow \bar x + \tfrac{B}{n + B}\,\delta, \qquad
       S \leftarrow S + S_b + \tfrac{n B}{n + B}\,\delta^2 $$

The inverse mass is the variance $S / (n - 1)$, shrunk towards the mean variance $\bar v$ over the coordinates by the
weight of 5 positions.

Reference: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979
(the batch form); the shrinkage follows Stan's in weight, not in its fixed scale of 0.001.
"""

import torch
from torch import Tensor

SHRINKAGE = 5.0


class Variance:
    """Running variance of each coordinate over chains and steps."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.squares: Tensor | None = None

    def update(self, position: Tensor) -> None:
        """Takes the positions of all chains at one step, (chain, dim)."""
        size = position.shape[0]
        mean = position.mean(dim=0)
        squares = (position - mean).square().sum(dim=0)
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = size, mean, squares
            return
        delta = mean - self.mean
        total = self.count + size
        self.mean = self.mean + delta * (size / total)
        self.squares = self.squares + squares + delta.square() * (self.count * size / total)
        self.count = total

    def inverse_mass(self) -> Tensor | None:
        """The shrunk variance, (dim,), or None where fewer than 10 positions were seen or none of them differ."""
        if self.squares is None or self.count < 10:
            return None
        variance = self.squares / (self.count - 1)
        mean = variance.mean()
        if not bool(mean > 0) or not bool(torch.isfinite(mean)):
            return None
        return (self.count * variance + SHRINKAGE * mean) / (self.count + SHRINKAGE)
