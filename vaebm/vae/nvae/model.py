"""The NVAE as a VAE: flat codes on the outside, groups at several scales inside.

    z = (z_1, ..., z_L), eps_z = (eps_1, ..., eps_L), each group flattened row by row, the top first
    T_z:       z_l = mu_p(z_<l) + sigma_p(z_<l) eps_l,  l = 1, ..., L                  ancestral sampling
    log p(z) = sum_l log N(z_l; mu_p(z_<l), sigma_p(z_<l))
    KL       = sum_l E_q(z_<l | x) KL(q(z_l | z_<l, x) || p(z_l | z_<l))              by one draw of z_<l

Sampling at a temperature is T_z(temperature * eps_z), as for every VAE. `generate` goes down the groups once, where
`latent` and then `decode` would twice.
"""

import torch
from torch import Tensor, nn

from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.distributions.likelihood import Likelihood, LikelihoodHead
from vaebm.vae.base import VAE, Inference
from vaebm.vae.nvae.hierarchy import Group, Hierarchy, standard_like
from vaebm.vae.nvae.towers import BottomUp, Tail

MAX_CODE = 256  # of the top group: a mixture of full covariances over more is slow to fit and fits poorly


class NVAE(VAE):
    """Groups of latents between a bottom-up tower and a top-down path."""

    def __init__(
        self,
        data_shape: tuple[int, ...],
        tower: BottomUp,
        hierarchy: Hierarchy,
        tail: Tail,
        likelihood: LikelihoodHead,
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.tower, self.hierarchy, self.tail, self.likelihood = tower, hierarchy, tail, likelihood
        sizes = [torch.Size(shape).numel() for shape in hierarchy.shapes]
        self.group_sizes = {f"z{number + 1}": size for number, size in enumerate(sizes)}
        self.latent_dim, self.code_dim = sum(sizes), min(sizes[0], MAX_CODE)

    # Down the groups, each time with another choice of z_l

    def latent(self, eps_z: Tensor) -> Tensor:
        return self._from_noise(eps_z)[1]

    def latent_noise(self, z: Tensor) -> Tensor:
        _, priors = self._given(z)
        return _join([prior.transport_inverse(z_l) for prior, z_l in zip(priors, self._split(z), strict=True)])

    def log_prior(self, z: Tensor) -> Tensor:
        _, priors = self._given(z)
        terms = [prior.log_prob(z_l) for prior, z_l in zip(priors, self._split(z), strict=True)]
        return torch.stack(terms).sum(0)

    def decode(self, z: Tensor) -> Likelihood:
        return self._likelihood(self._given(z)[0])

    def decode_noise(self, eps_z: Tensor) -> tuple[Likelihood, Tensor]:
        state, z = self._from_noise(eps_z)  # decoded on the way, where `latent` and `decode` would pass twice
        return self._likelihood(state), z

    def encode(self, x: Tensor) -> Tensor:
        """The means of q(z_l | z_<l, x), each given the means above it, (B, latent_dim)."""
        features, chosen = self.tower(x), []

        def choose(number: int, group: Group, state: Tensor) -> Tensor:
            posterior = group.posterior_noise(state, features[number])
            chosen.append(group.prior(state).transport(posterior.mean))
            return chosen[-1]

        self.hierarchy(x.shape[0], choose)
        return _join(chosen)

    def infer(self, x: Tensor, generator: torch.Generator) -> Inference:
        return self._infer(x, generator)[1]

    def propose(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        features, chosen, log_ratios = self.tower(x), [], []

        def choose(number: int, group: Group, state: Tensor) -> Tensor:
            posterior = group.posterior_noise(state, features[number])
            noise = posterior.sample(generator)
            log_ratios.append(posterior.log_prob(noise) - standard_like(noise).log_prob(noise))
            chosen.append(group.prior(state).transport(noise))
            return chosen[-1]

        self.hierarchy(x.shape[0], choose)
        return _join(chosen), torch.stack(log_ratios).sum(0)

    def reconstruct(self, x: Tensor, generator: torch.Generator) -> tuple[Inference, Likelihood]:
        state, inference = self._infer(x, generator)
        return inference, self._likelihood(state)

    def nets(self) -> list[nn.Module]:
        return [self.tower, *self.hierarchy.ways, self.tail]

    def _infer(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Inference]:
        features, chosen, kl = self.tower(x), [], {}
        posteriors: list[DiagonalGaussian] = []

        def choose(number: int, group: Group, state: Tensor) -> Tensor:
            posterior = group.posterior_noise(state, features[number])
            posteriors.append(posterior)
            kl[f"z{number + 1}"] = posterior.kl(standard_like(posterior.mean))
            chosen.append(group.prior(state).transport(posterior.sample(generator)))
            return chosen[-1]

        state = self.hierarchy(x.shape[0], choose)
        return state, Inference(_join(chosen), kl, posteriors[0].first(self.code_dim))

    def _given(self, z: Tensor) -> tuple[Tensor, list[DiagonalGaussian]]:
        groups, priors = self._split(z), []

        def choose(number: int, group: Group, state: Tensor) -> Tensor:
            priors.append(group.prior(state))
            return groups[number]

        return self.hierarchy(z.shape[0], choose), priors

    def _from_noise(self, eps_z: Tensor) -> tuple[Tensor, Tensor]:
        noise, chosen = self._split(eps_z), []

        def choose(number: int, group: Group, state: Tensor) -> Tensor:
            chosen.append(group.prior(state).transport(noise[number]))
            return chosen[-1]

        return self.hierarchy(eps_z.shape[0], choose), _join(chosen)

    def _likelihood(self, state: Tensor) -> Likelihood:
        likelihood: Likelihood = self.likelihood(self.tail(state))
        return likelihood

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split(list(self.group_sizes.values()), dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.hierarchy.shapes, strict=True)]


def _join(groups: list[Tensor]) -> Tensor:
    return torch.cat([group.flatten(1) for group in groups], dim=1)
