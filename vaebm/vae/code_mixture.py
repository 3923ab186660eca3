"""A Gaussian mixture fitted to the codes of real data: the baseline to beat, and a normalised energy on z.

The codes of data do not fill N(0, I); z drawn from the mixture instead gives much better samples of the very same
decoder, for seconds of work (ex-post density estimation: Ghosh et al., From Variational to Deterministic Autoencoders,
2020). Codes are draws from q(z | x), so the fit is to the aggregate posterior, not to its means.

Expectation-maximisation from k-means, until an iteration gains less than `TOLERANCE` nats a code:

    r_nk = pi_k N(z_n; m_k, S_k) / mix(z_n)                      n_k = sum_n r_nk
    pi_k = n_k / n      m_k = sum_n r_nk z_n / n_k      S_k = sum_n r_nk (z_n - m_k)(z_n - m_k)^T / n_k + floor I

A component has d (d + 3) / 2 numbers to learn: with too few codes the fit is to those codes rather than to all, and its
draws are worse for it (docs/studies/images.md).
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from vaebm.distributions.mixture import GaussianMixture
from vaebm.progress import Progress, silent
from vaebm.registry import Settings

TOLERANCE = 1e-3
ITERATIONS = 200
CHUNK = 2048  # codes at a time: (CHUNK, K, d) numbers stay in the processor's cache


class CodeMixtureSettings(Settings):
    """Full-covariance Gaussians fitted by expectation-maximisation."""

    components: int = Field(10, ge=1, description="Gaussians in the mixture")
    covariance_floor: float = Field(1e-3, gt=0, description="added to the diagonal of every covariance")
    codes: int = Field(60_000, ge=100, description="draws from q(z | x) that the mixture is fitted to")

    @model_validator(mode="after")
    def _check_codes(self) -> CodeMixtureSettings:
        if self.codes < 2 * self.components:
            raise ValueError(f"codes is {self.codes}, but {self.components} components need at least twice as many")
        return self


def fit_code_mixture(
    codes: Tensor,
    settings: CodeMixtureSettings,
    seed: int,
    progress: Progress | None = None,
    start: GaussianMixture | None = None,
) -> GaussianMixture:
    """A mixture of locally best likelihood of codes (n, d), fitted where they are.

    It is the one that `seed` leads to by k-means, or the one beside `start`. Fewer than two codes a component get fewer
    components. `progress` counts towards the most iterations there can be.
    """
    components = min(settings.components, max(1, codes.shape[0] // 2))
    codes = codes if codes.dtype == torch.float64 else codes.float()
    responsibilities = _clusters(codes, components, seed) if start is None else _expectation(codes, start)[0]
    before = -torch.inf
    with (progress or silent()).task("mixture", ITERATIONS, "iterations") as task:
        for _ in range(ITERATIONS):
            mixture = _maximisation(codes, responsibilities, settings.covariance_floor)
            responsibilities, now = _expectation(codes, mixture)
            task.advance(log_likelihood=now)
            if now - before < TOLERANCE:
                break
            before = now
    return mixture


def _clusters(codes: Tensor, components: int, seed: int) -> Tensor:
    """(n, K) of ones and zeros: each code's k-means cluster."""
    from sklearn.cluster import KMeans

    with threadpool_limits(1):  # sums in a fixed order: the same seed gives the same clusters
        labels = KMeans(components, n_init=1, random_state=seed).fit(codes.cpu().numpy()).labels_
    return functional.one_hot(torch.from_numpy(labels).long(), components).to(codes)


def _expectation(codes: Tensor, mixture: GaussianMixture) -> tuple[Tensor, float]:
    """r (n, K), and the mean log-likelihood of a code in nats."""
    joint = torch.cat([mixture.log_joint(part) for part in codes.split(CHUNK)])
    log_likelihood = torch.logsumexp(joint, dim=1)
    return (joint - log_likelihood[:, None]).exp(), float(log_likelihood.mean())


def _maximisation(codes: Tensor, responsibilities: Tensor, floor: float) -> GaussianMixture:
    """pi, m and S of the codes (n, d) under r (n, K)."""
    dim = codes.shape[1]
    # A component that lost its codes stays finite.
    mass = responsibilities.sum(0).clamp_min(torch.finfo(responsibilities.dtype).eps)
    means = responsibilities.mT @ codes / mass[:, None]
    scatter = codes.new_zeros(len(mass), dim, dim)
    for part, responsibility in zip(codes.split(CHUNK), responsibilities.split(CHUNK), strict=True):
        for k, mean in enumerate(means):
            weighted = responsibility[:, k, None].sqrt() * (part - mean)
            scatter[k].addmm_(weighted.mT, weighted)
    covariances = (scatter / mass[:, None, None]).double() + floor * torch.eye(dim, device=codes.device)
    factors = torch.linalg.cholesky(covariances).to(codes.dtype)
    return GaussianMixture((mass / mass.sum()).log(), means, factors)
