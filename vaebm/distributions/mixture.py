"""A mixture of full-covariance Gaussians: normalised, with exact samples.

    log mix(z) = logsumexp_k [ log pi_k + log N(z; m_k, L_k L_k^T) ]
    log N(z; m_k, L_k L_k^T) = -|L_k^{-1} (z - m_k)|^2 / 2 - sum_i log L_k,ii - d/2 log(2 pi)

The inverse Cholesky factors are what is stored: a log-density is then one matrix product.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.distributions.gaussian import HALF_LOG_TWO_PI


class GaussianMixture(nn.Module):
    """Mixture of K Gaussians in d dimensions; a module without trainable weights, so that it is saved with a model."""

    log_weights: Tensor  # (K,), normalised
    means: Tensor  # (K, d)
    factors: Tensor  # (K, d, d), lower Cholesky factors of the covariances
    whitening: Tensor  # their inverses

    def __init__(self, log_weights: Tensor, means: Tensor, factors: Tensor) -> None:
        super().__init__()
        identity = torch.eye(means.shape[1], dtype=means.dtype, device=means.device)
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("means", means)
        self.register_buffer("factors", factors.contiguous())  # in a layout that saving and loading keeps, to the bit
        self.register_buffer(
            "whitening", torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False).contiguous()
        )

    @classmethod
    def standard(cls, components: int, dim: int) -> "GaussianMixture":
        """Every component N(0, I): the place that a fit or a file fills."""
        return cls(
            torch.full((components,), 1.0 / components).log(),
            torch.zeros(components, dim),
            torch.eye(dim).repeat(components, 1, 1),
        )

    def log_joint(self, z: Tensor) -> Tensor:
        """log [ pi_k N(z; m_k, L_k L_k^T) ] of (B, d), to (B, K), in nats."""
        with torch.autocast(z.device.type, enabled=False):  # a density is never left to half precision
            offset = torch.einsum("kij,kj->ki", self.whitening, self.means)
            white = functional.linear(z, self.whitening.flatten(0, 1), -offset.flatten()).unflatten(1, offset.shape)
        log_volume = self.whitening.diagonal(dim1=1, dim2=2).log().sum(1)
        joint: Tensor = self.log_weights - 0.5 * white.square().sum(2) + log_volume - z.shape[1] * HALF_LOG_TWO_PI
        return joint

    def log_prob(self, z: Tensor) -> Tensor:
        """log mix(z) of (B, d), to (B,), in nats."""
        return torch.logsumexp(self.log_joint(z), dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, d) draws, each exact, in no order.

        They are stratified: draw i is of the component where the running sum of the weights passes (U + i) / n, with
        the same U for all. So a component gives pi_k n, rounded up or down, and means over draws vary less than those
        of independent ones would.
        """
        running = self.log_weights.double().exp().cumsum(0)
        uniform = torch.rand(1, dtype=running.dtype, device=running.device, generator=generator)
        points = (uniform + torch.arange(n, device=running.device)) / max(n, 1) * running[-1]
        component = torch.searchsorted(running, points, right=True).clamp(max=len(running) - 1)
        return self.sample_of(component[torch.randperm(n, generator=generator, device=component.device)], generator)

    def sample_of(self, component: Tensor, generator: torch.Generator) -> Tensor:
        """A draw (n, d) of each of these components (n,)."""
        eps = torch.randn(
            len(component), self.means.shape[1], generator=generator, dtype=self.means.dtype, device=self.means.device
        )
        z = torch.empty_like(eps)
        for k in component.unique().tolist():  # a factor per draw would be n matrices of d x d
            drawn = component == k
            z[drawn] = self.means[k] + eps[drawn] @ self.factors[k].mT
        return z
