"""E_z: an energy on the codes, trained without the decoder in the loop.

    mixture      E_z(z) = log p(z) - log mix(z)                  p(z) exp(-E_z(z)) = mix(z): normalised, exact samples
    correction   E_z(z) = log p(z) - log mix'(z) + net(z)        net is minus the log ratio of codes to mixture, bounded

mix is the Gaussian mixture fitted to the codes (vae/code_mixture.py), whose prior is N(0, I) in every VAE. Of a
hierarchical one they are the first coordinates of z: with c those and r the rest, p(c) p(r | c) exp(-E_z) = mix(c)
p(r | c), so the sentence above holds for E_z(c).

A correction is sampled by rejection: a code of the mixture is kept with probability exp(least - net), where least =
-softplus(`bound`) is a value that net cannot fall below, so that each sample is exact. About one code in 1 + e^bound is
kept, and where codes of data are denser than that, the ratio saturates. It does so for some kinds of data more than
for others, which would then be too few among the samples (of digits, by a quarter). mix' makes up for it: the mixture's
components, weighed anew so that each has the fraction that it has of codes of data,

    pi'_k = (pi_k / Z_k) / sum_j (pi_j / Z_j)       Z_k = E_{z ~ N_k} exp(-net(z))
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebm.distributions.gaussian import at_least_float32, standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.base import LatentEnergy, LatentEnergySettings, linear_from_zero
from vaebm.errors import Diverged
from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.initialise import initialise
from vaebm.nn.mlp import mlp

MIN_KEPT = 1e-4  # of the mixture's codes; a net that rejects more has come apart, and rejection would not end
STRATA = 4  # a component's fraction then varies half as much as among independent draws
CODES_AT_ONCE = 8192
NORMALISER_CODES = 1 << 17


class MixtureEnergy(LatentEnergy):
    """log p(z) - log mix(z), plus a net where one is given; the mixture is set once it has been fitted.

    Args:
        mixture: mix, on the first coordinates of z.
        correction: net, (B, d) to (B, 1).
        least: a value in nats that net cannot fall below; the closer, the fewer codes are drawn in vain.
    """

    def __init__(self, mixture: GaussianMixture, correction: nn.Module | None = None, least: float = 0.0) -> None:
        super().__init__()
        self.mixture = mixture
        self.correction = correction
        self.least = least

    def net(self, codes: Tensor) -> Tensor:
        """The learned part, (B, code_dim) to (B,): minus the log ratio of codes to mixture, up to a constant."""
        assert self.correction is not None
        energy: Tensor = self.correction(codes)
        return energy.squeeze(1)

    def of_z(self, z: Tensor) -> Tensor:
        codes = z[:, : self.mixture.means.shape[1]]
        energy = standard_log_prob(codes) - self.mixture.log_prob(codes)
        return energy if self.correction is None else energy + self.net(codes)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, code_dim) draws of p(z) exp(-E_z(z)), each exact, in no order; stratified, as the mixture's are.

        With a correction, `STRATA` times as many are drawn by rejection and put in the order of their components; of
        each `STRATA` neighbours one is taken.

        Raises:
            Diverged: nearly none of the mixture's codes is kept, as when net is not a number.
        """
        if self.correction is None:
            return self.mixture.sample(n, generator)
        codes, component = self._kept(STRATA * n, generator)
        first = STRATA * torch.randperm(n, generator=generator, device=codes.device)
        chosen = first + torch.randint(STRATA, (n,), generator=generator, device=codes.device)
        return codes[component.argsort(stable=True)[chosen]]

    def _kept(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n codes that rejection keeps, independent of each other, and their components."""
        weights = self.mixture.log_weights.exp()
        kept, wanted, drawn = [(self.mixture.means[:0], torch.empty(0, dtype=torch.int64, device=weights.device))], n, 0
        while wanted > 0:
            if drawn * MIN_KEPT > n + 10:
                raise Diverged(
                    f"E_z kept {n - wanted} of {drawn:,} codes of its mixture: its net has come apart; train it again"
                    " with a smaller energy_stage.latent.learning_rate, or take energy.latent.kind=mixture"
                )
            # Independent ones: among stratified candidates, whether one is kept would depend on how many others are.
            candidates = min(math.ceil(wanted * math.exp(-self.least)), CODES_AT_ONCE)
            component = torch.multinomial(weights, candidates, replacement=True, generator=generator)
            codes = self.mixture.sample_of(component, generator)
            uniform = torch.rand(len(codes), generator=generator, dtype=codes.dtype, device=codes.device)
            keep = uniform.log() < self.least - at_least_float32(self.net(codes))
            kept.append((codes[keep], component[keep]))
            wanted, drawn = wanted - int(keep.sum()), drawn + len(codes)
        codes, component = (torch.cat(parts)[:n] for parts in zip(*kept, strict=True))
        return codes, component

    @torch.no_grad()
    def log_normaliser(self, generator: torch.Generator) -> float:
        """log of the mean of exp(-net) over draws of the mixture: an estimate, good to a hundredth at bound 3."""
        if self.correction is None:
            return 0.0
        codes = self.mixture.sample(NORMALISER_CODES, generator)
        net = torch.cat([at_least_float32(self.net(part)) for part in codes.split(CODES_AT_ONCE)])
        return float((-net.double()).logsumexp(0)) - math.log(NORMALISER_CODES)

    @torch.no_grad()
    def calibrate(self, n: int, generator: torch.Generator) -> None:
        """Weighs the mixture's components anew: pi_k becomes pi'_k, with Z_k over n draws of the mixture.

        A draw counts for component k by its responsibility: Z_k = sum_i r_ik exp(-net(z_i)) / sum_i r_ik.
        """
        codes = self.mixture.sample(n, generator)
        log_r = torch.cat([self.mixture.log_joint(part).log_softmax(1) for part in codes.split(CODES_AT_ONCE)])
        log_weighted = (
            log_r - torch.cat([at_least_float32(self.net(part)) for part in codes.split(CODES_AT_ONCE)])[:, None]
        )
        log_z = log_weighted.logsumexp(0) - log_r.logsumexp(0)
        self.mixture.log_weights.copy_((self.mixture.log_weights - log_z).log_softmax(0))


class _BoundedBelow(nn.Module):
    """softplus(x + bound) - softplus(bound): 0 at 0, at least -softplus(bound), and x plus a constant far above."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.least = -(bound + math.log1p(math.exp(-bound)))

    def forward(self, x: Tensor) -> Tensor:
        x = at_least_float32(x)
        bound = x.new_tensor(self.bound)
        return functional.softplus(x + bound) - functional.softplus(bound)


class MixtureEnergySettings(LatentEnergySettings):
    """The mixture fitted to the codes, as it is."""

    kind: Literal["mixture"] = Field("mixture", description="the mixture as it is")

    def build(self, code_dim: int, components: int, generator: torch.Generator) -> MixtureEnergy:
        return MixtureEnergy(GaussianMixture.standard(components, code_dim))


class CorrectionSettings(LatentEnergySettings):
    """The mixture and a net on top, learned as a density ratio of codes to mixture."""

    kind: Literal["correction"] = Field("correction", description="the mixture and a net on top")
    hidden: list[int] = Field([256, 256], min_length=1, description="widths of the hidden layers")
    bound: float = Field(
        3.0,
        gt=0,
        le=7,
        description="about the greatest log ratio of codes to mixture, in nats; one in 1 + e^bound is kept",
    )

    def build(self, code_dim: int, components: int, generator: torch.Generator) -> MixtureEnergy:
        """E_z with a mixture still to be fitted and a net that is still 0."""
        body = mlp([code_dim, *self.hidden], LipschitzSwish)
        initialise(body, generator)
        bounded = _BoundedBelow(self.bound)
        net = nn.Sequential(body, LipschitzSwish(), linear_from_zero(self.hidden[-1]), bounded)
        return MixtureEnergy(GaussianMixture.standard(components, code_dim), net, bounded.least)
