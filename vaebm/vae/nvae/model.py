"""The NVAE as a VAE: flat codes on the outside, groups at several scales inside.

    z = (z_1, ..., z_L), eps_z = (eps_1, ..., eps_L), each group flattened row by row, the top first
    T_z:       z_l = mu_p(z_<l) + sigma_p(z_<l) eps_l,  l = 1, ..., L                  ancestral sampling
    log p(z) = sum_l log N(z_l; mu_p(z_<l), sigma_p(z_<l))
    KL       = sum_l E_q(z_<l | x) KL(q(z_l | z_<l, x) || p(z_l | z_<l))              by one draw of z_<l

Sampling at a temperature is T_z(temperature * eps_z), as for every VAE. In a recipe:

    vae:
      kind: nvae
      widths: [32, 64, 128]     # channels at full size, half, quarter
      groups: [2, 4]            # two groups of latents at a quarter of the size, below them four at half
      latents: 8                # channels of every group

`norm: weight` keeps no statistics. `norm: batch` is the published one; its statistics are estimated again at the end of
the VAE's stage. Published sizes: CIFAR-10 widths [128, 256], groups [30], latents 20; CelebA 64 groups [5, 5, 5].
"""

from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaebm.distributions.gaussian import DiagonalGaussian, standard_log_prob
from vaebm.distributions.likelihood import CensoredSettings, Likelihood, LikelihoodHead, LikelihoodSettings
from vaebm.nn.initialise import initialise
from vaebm.vae.base import MAX_CODE, VAE, Inference, VAESettings
from vaebm.vae.nvae.cells import CONVOLUTIONS, DecoderCell, Norm
from vaebm.vae.nvae.hierarchy import Group, Hierarchy, scales, standard_like
from vaebm.vae.nvae.towers import BottomUp, Tail

HEAD_SCALE = 0.1  # of initial weights that lead to means and scales: distributions start near the standard one


class NVAE(VAE):
    """Groups of latents between a bottom-up tower and a top-down path."""

    def __init__(
        self, data_shape: tuple[int, ...], tower: BottomUp, hierarchy: Hierarchy, tail: Tail, likelihood: LikelihoodHead
    ) -> None:
        super().__init__()
        self.data_shape = data_shape
        self.tower, self.hierarchy, self.tail, self.likelihood = tower, hierarchy, tail, likelihood
        sizes = [torch.Size(shape).numel() for shape in hierarchy.shapes]
        self.group_sizes = {f"z{number + 1}": size for number, size in enumerate(sizes)}
        self.latent_dim, self.code_dim = sum(sizes), min(sizes[0], MAX_CODE)  # codes of the top group

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
        return self._from_data(x, None)[1]

    def infer(self, x: Tensor, generator: torch.Generator) -> Inference:
        return self._infer(x, generator)[1]

    def propose(self, x: Tensor, generator: torch.Generator, draws: int | None = None) -> tuple[Tensor, Tensor]:
        x = x if draws is None else x.repeat_interleave(draws, 0)
        _, z, posteriors, noise = self._from_data(x, generator, draws)
        terms = [q.log_prob(eps) - standard_log_prob(eps) for q, eps in zip(posteriors, noise, strict=True)]
        return z, torch.stack(terms).sum(0)

    def reconstruct(self, x: Tensor, generator: torch.Generator) -> tuple[Inference, Likelihood]:
        state, inference = self._infer(x, generator)
        return inference, self._likelihood(state)

    def nets(self) -> list[nn.Module]:
        return [self.tower, *self.hierarchy.ways, self.tail]

    def _infer(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Inference]:
        state, z, posteriors, _ = self._from_data(x, generator)
        kl = {f"z{number}": q.kl(standard_like(q.mean)) for number, q in enumerate(posteriors, 1)}
        return state, Inference(z, kl, posteriors[0].first(self.code_dim))

    def _from_data(
        self, x: Tensor, generator: torch.Generator | None, period: int | None = None
    ) -> tuple[Tensor, Tensor, list[DiagonalGaussian], list[Tensor]]:
        """The state below the last group; z, drawn, or of means without a generator; q of each eps_l; and the eps_l."""
        features, chosen, posteriors, noise = self.tower(x), [], [], []

        def choose(number: int, group: Group, state: Tensor) -> Tensor:
            posteriors.append(group.posterior_noise(state, features[number]))
            noise.append(posteriors[-1].mean if generator is None else posteriors[-1].sample(generator, period))
            chosen.append(group.prior(state).transport(noise[-1]))
            return chosen[-1]

        return self.hierarchy(x.shape[0], choose), _join(chosen), posteriors, noise

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


MAX_GROUPS = 100  # at one scale; the published models have 20 at most


class NVAESettings(VAESettings):
    """Groups of latents at several scales, with residual cells between them."""

    kind: Literal["nvae"] = Field("nvae", description="groups of latents at several scales")
    widths: list[int] = Field([32, 64, 128], min_length=1, description="channels from the full size down, halved each")
    groups: list[int] = Field([2, 4], min_length=1, description="groups of latents at each scale, the coarsest first")
    latents: int = Field(8, ge=1, description="channels of each group")
    cells: int = Field(1, ge=1, le=100, description="residual cells for each group, and for a scale without groups")
    expansion: int = Field(3, ge=1, description="of channels inside a decoder cell; 6 as published")
    kernel_size: Literal[3, 5, 7] = Field(5, description="of a decoder cell's depth-wise convolution; 5 as published")
    padding: int = Field(0, ge=0, description="pixels added on every side for the nets, and cut off again")
    norm: Norm = Field("weight", description="normalisation of the convolutions")
    gradient_checkpointing: bool = Field(False, description="less memory for a second forward pass")
    likelihood: LikelihoodSettings = Field(CensoredSettings(), description="p(x | z)")

    @model_validator(mode="after")
    def _check_scales(self) -> "NVAESettings":
        if len(self.groups) > len(self.widths):
            raise ValueError(f"groups names {len(self.groups)} scales, but widths only {len(self.widths)}")
        if min(self.groups) < 1 or min(self.widths) < 1:
            raise ValueError("groups and widths are at least 1 at every scale that they name")
        if max(self.groups) > MAX_GROUPS:
            raise ValueError(f"a scale has at most {MAX_GROUPS} groups")
        return self

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        layout = scales(data_shape, self.widths, self.groups, self.padding)
        likelihood, convolution = self.likelihood.build(), CONVOLUTIONS[self.norm]
        deep, last = layout[: len(self.groups)], len(self.groups) - 1
        recompute, channels = self.gradient_checkpointing, data_shape[0]
        tower = BottomUp(channels, layout, self.cells, self.padding, convolution, recompute)
        cell = partial(DecoderCell, expansion=self.expansion, kernel_size=self.kernel_size, convolution=convolution)
        hierarchy = Hierarchy(deep, self.latents, self.cells, cell, convolution, recompute)
        outputs = likelihood.outputs_per_value * channels
        tail = Tail(layout[last:], outputs, self.cells, cell, self.padding, convolution, recompute)
        vae = NVAE(data_shape, tower, hierarchy, tail, likelihood)
        initialise(vae, generator)
        with torch.no_grad():
            for name, weight in hierarchy.named_parameters():
                if "prior_head" in name or "posterior_head" in name:
                    weight.mul_(HEAD_SCALE)
        vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload that torch's stubs lack
        return vae.eval()
