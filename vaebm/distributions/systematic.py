r"""Systematic sampling: n indices in proportion to weights, with one uniform number.

The i-th is where the running sum of the normalised weights passes $(U + i) / n$. An index of normalised weight $w$ is
taken $n w$ times, rounded up or down: its expected number is exact, and chance has little say in it.

Reference: Carpenter, Clifford and Fearnhead, Improved particle filter for nonlinear problems, IEE Proceedings, 1999.
"""

import torch
from torch import Tensor


def systematic(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n indices out of weights (..., N), at least one of them above 0, in proportion to them: (..., n), ascending."""
    running = weights.double().cumsum(dim=-1)
    uniform = torch.rand(*weights.shape[:-1], 1, dtype=running.dtype, device=running.device, generator=generator)
    points = (uniform + torch.arange(n, device=running.device)) / max(n, 1) * running[..., -1:]
    return torch.searchsorted(running, points, right=True).clamp(max=weights.shape[-1] - 1)
