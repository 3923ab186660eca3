r"""Mass: the diagonal inverse mass, from the variances of the chains.

Welford's update for a batch of B positions with mean $\bar b$ and sum of squared deviations $S_b$, after n positions
with $\bar x$, $S$:

    $$ \delta = \bar b - \bar x, \qquad \bar x \leftarrow \bar x + \tfrac{B}{n + B}\,\delta, \qquad
       S \leftarrow S + S_b + \tfrac{n B}{n + B}\,\delta^2 $$

The inverse mass is the variance $v = S / (n - 1)$, shrunk towards the inverse mass $m$ before by the weight of 5
positions, coordinate by coordinate and in proportion, so that it learns any scale,

    $$ \log m \leftarrow \frac{n \log v + 5 \log m}{n + 5} $$

Reference: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979
(the batch form); the shrinkage has the weight of Stan's, whose fixed scale of 0.001 is that of no target in general.
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

    def inverse_mass(self, before: float | Tensor) -> Tensor | None:
        """The shrunk variance, (dim,), or None where fewer than 10 positions were seen or none of them differ.

        A coordinate that has not moved keeps the inverse mass that it had before.
        """
        if self.squares is None or self.count < 10:
            return None
        variance = self.squares / (self.count - 1)
        seen = (variance > 0) & variance.isfinite()
        if not bool(seen.any()):
            return None
        old = torch.as_tensor(before, dtype=variance.dtype, device=variance.device)
        shrunk = torch.lerp(variance.log(), old.log(), SHRINKAGE / (self.count + SHRINKAGE)).exp()
        return torch.where(seen, shrunk, old)
