"""Settings of drawing: where chains begin, what moves them, and what of their ends is shown."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vaebm import sampling
from vaebm.models.base import Show
from vaebm.models.noise_space import Target
from vaebm.registry import Settings
from vaebm.sampling.langevin import Langevin
from vaebm.sampling.settings import settings_of


class InitSettings(Settings):
    """Where chains begin: at samples of the base, among which the energy may choose."""

    importance_samples: int = Field(
        1, ge=1, description="draws a chain among which the energy's weights choose; 1 takes them all"
    )
    noise_scale: float = Field(
        1.0,
        ge=0,
        le=1,
        description="standard deviation of the pixel noise at the start; 0 starts from the decoder's means",
    )


class DrawSettings(Settings):
    """How samples are drawn; all of it may change after training."""

    sampler: sampling.Sampler = Field(settings_of(Langevin)(), description="the kernel and how long its chains run")
    latent_step_scale: float = Field(
        1.0,
        gt=0,
        description="size of a chain's moves of the codes' noise, relative to those of the pixels' noise, as long as no"
        " warm-up has learned a mass",
    )
    fix_codes: bool = Field(
        False,
        description="codes stay as the base draws them and chains move pixels alone: samples then follow the base's"
        " codes and h(x | z) instead of h(x, z)",
    )
    init: InitSettings = Field(InitSettings(), description="where chains begin")
    target: Target = Field(
        "exact", description="the exact pull-back, or the released code's target, which drops a Jacobian"
    )
    show: Show = Field("sample", description="what of a sample is shown where nobody asks for another way")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="of convolutions and products; auto is settled when a run is made, by its device"
    )
    compile: bool = Field(False, description="torch.compile for decoder and energy: a start-up cost for faster steps")
