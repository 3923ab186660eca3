"""An NVAE as a recipe says it.

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

from vaebm.distributions.likelihood import CensoredSettings, LikelihoodSettings
from vaebm.nn.initialise import initialise
from vaebm.vae.base import VAE, VAESettings
from vaebm.vae.nvae.cells import CONVOLUTIONS, DecoderCell, Norm
from vaebm.vae.nvae.hierarchy import Hierarchy, scales
from vaebm.vae.nvae.model import NVAE
from vaebm.vae.nvae.towers import BottomUp, Tail

HEAD_SCALE = 0.1  # of initial weights that lead to means and scales: distributions start near the standard one


class NVAESettings(VAESettings):
    """Groups of latents at several scales, with residual cells between them."""

    kind: Literal["nvae"] = Field("nvae", description="groups of latents at several scales")
    widths: list[int] = Field([32, 64, 128], min_length=1, description="channels from the full size down, halved each")
    groups: list[int] = Field([2, 4], min_length=1, description="groups of latents at each scale, the coarsest first")
    latents: int = Field(8, ge=1, description="channels of each group")
    cells: int = Field(1, ge=1, description="residual cells for each group, and for a scale without groups")
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
