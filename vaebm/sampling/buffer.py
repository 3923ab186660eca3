r"""Replay buffer: where persistent chains wait between two training steps.

A draw of n takes each position from the buffer with the replay probability and starts it afresh otherwise; the caller
moves them on and puts them back. A reused position returns to its own slot; a fresh one goes to a slot that is still
empty, or, in a full buffer, replaces a waiting one at random. Only positions are kept: the energy has moved
meanwhile, so its values would be stale. How often each has been moved is counted, for whoever watches.

Reference: Tieleman, Training restricted Boltzmann machines using approximations to the likelihood gradient, ICML 2008
(persistent chains); Du and Mordatch, Implicit generation and modeling with energy-based models, NeurIPS 2019 (the
buffer with restarts).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Draw(NamedTuple):
    """Positions to move on.

    Attributes:
        position: (n, dim), the reused first.
        slots: (n,) int64, where `put` will store them; all different.
        reused: (n,) bool, whether the position came from the buffer.
    """

    position: Tensor
    slots: Tensor
    reused: Tensor


class ReplayBuffer:
    """Up to `capacity` positions."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"the buffer's capacity is {capacity}; it has to be at least 1")
        self.capacity = capacity
        self._positions: Tensor | None = None
        self._moves = torch.zeros(capacity, dtype=torch.int64)  # of each chain since it began, on the CPU
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    @property
    def positions(self) -> Tensor | None:
        """(stored, dim), or None while nothing is stored."""
        return None if self._positions is None else self._positions[: self._filled]

    @property
    def age(self) -> float:
        """How often the waiting chains have been moved since they began, on average; 0 while nothing is stored."""
        return float(self._moves[: self._filled].double().mean()) if self._filled else 0.0

    def draw(self, n: int, replay_prob: float, fresh: Callable[[int], Tensor], generator: torch.Generator) -> Draw:
        """Draws n positions to move on.

        Args:
            n: at most the capacity.
            replay_prob: in [0, 1]; as long as the buffer holds fewer than it asks for, more are fresh.
            fresh: gives that many new positions, (count, dim).
            generator: on the positions' device.

        Raises:
            ValueError: n or the probability is out of range.
        """
        if not 0 < n <= self.capacity:
            raise ValueError(f"cannot draw {n} positions from a buffer with capacity {self.capacity}")
        if not 0 <= replay_prob <= 1:
            raise ValueError(f"the replay probability is {replay_prob}; it has to be in [0, 1]")
        device = generator.device
        wanted = int((torch.rand(n, device=device, generator=generator) < replay_prob).sum())
        reused = min(wanted, self._filled)
        waiting = torch.randperm(self._filled, device=device, generator=generator)
        empty = torch.arange(self._filled, self.capacity, device=device)
        slots = torch.cat([waiting[:reused], empty, waiting[reused:]])[:n]
        parts = []
        if self._positions is not None and reused:
            parts.append(self._positions[slots[:reused]])
        if reused < n:
            parts.append(fresh(n - reused).detach())
            self._moves[slots[reused:].cpu()] = 0
        return Draw(torch.cat(parts), slots, torch.arange(n, device=device) < reused)

    def put(self, position: Tensor, slots: Tensor) -> None:
        """Stores moved positions.

        Args:
            position: (n, dim).
            slots: (n,), of the draw that they came from.

        Raises:
            ValueError: a position is not finite, or the dimension is another than that of the stored.
        """
        bad = (~position.isfinite()).any(dim=1).nonzero()[:, 0].tolist()
        if bad:
            raise ValueError(
                f"{len(bad)} of {len(position)} positions are not finite ({bad[:10]}); put only finite ones back"
            )
        if self._positions is None:
            self._positions = position.new_empty(self.capacity, position.shape[1])
        if position.shape[1] != self._positions.shape[1]:
            stored = self._positions.shape[1]
            raise ValueError(f"positions have dimension {position.shape[1]}, the stored ones {stored}")
        self._positions[slots] = position.detach()
        self._moves[slots.cpu()] += 1
        self._filled = max(self._filled, int(slots.max()) + 1)

    def state_dict(self) -> dict[str, Tensor]:
        """The stored "positions" (stored, dim) and their "moves" (stored,); empty while nothing is stored."""
        if self._positions is None:
            return {}
        stored = slice(self._filled)
        return {"positions": self._positions[stored].clone(), "moves": self._moves[stored].clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes the positions of a `state_dict`; raises a ValueError where there are more than the capacity."""
        self._positions, self._filled = None, 0
        if "positions" in state:
            stored = state["positions"]
            if len(stored) > self.capacity:
                raise ValueError(f"{len(stored)} positions do not fit into a buffer with capacity {self.capacity}")
            self.put(stored, torch.arange(len(stored), device=stored.device))
            if "moves" in state:
                self._moves[: len(stored)] = state["moves"].cpu()
