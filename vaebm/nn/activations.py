"""Swish, and swish scaled to Lipschitz constant at most 1.

    swish(x) = x sigmoid(x)          max |swish'| = 1.0998...
    lipschitz_swish(x) = swish(x) / 1.1                         (Chen et al., Residual Flows, 2019)

An energy's steepness decides whether a chain of given step size is stable, hence the scaled one in energies.
"""

from torch import Tensor, nn
from torch.nn import functional


class LipschitzSwish(nn.Module):
    """x sigmoid(x) / 1.1, element-wise."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(x) / 1.1
