"""ShuffledSampler: the order in which training data come.

Epoch e is a permutation of all rows, drawn by a generator of (seed, e). A batch that reaches the end of an epoch goes
on in the next, so after any number of batches two rows differ by at most one in how often they came. With P processes,
each takes its part of every batch. A resumed run needs one number: how many rows have been taken.
"""

import torch
from torch import Tensor

EPOCHS_APART = 1_000_003  # between the generators of two seeds, so that they share no epoch


class ShuffledSampler:
    """An endless order of `count` rows, of every batch of which this process takes its part."""

    def __init__(self, count: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.count, self.seed, self.rank, self.processes = count, seed, rank, processes
        self.position = 0
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def take(self, rows: int) -> Tensor:
        """The next indices, (rows,) of this process, on the CPU."""
        first = self.position + self.rank * rows
        self.position += self.processes * rows
        parts, taken = [], 0
        while taken < rows:
            epoch, within = divmod(first + taken, self.count)
            part = self._of_epoch(epoch)[within : within + rows - taken]
            parts.append(part)
            taken += len(part)
        return torch.cat(parts)

    def _of_epoch(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * EPOCHS_APART + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.count, generator=generator)
        return self._order
