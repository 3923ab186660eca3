"""Sampling: chains that draw from a log-density.

A target is any function (chain, dim) -> (chain,); nothing here knows what a model is. `kernel` is the contract, one
file holds one algorithm, `run` runs chains, `buffer` keeps them between training steps, `adaptation` is what a
warm-up learns by.
"""

from typing import Annotated

from pydantic import Field

from vaebm.sampling.buffer import ReplayBuffer
from vaebm.sampling.compiled import compiled
from vaebm.sampling.diagnostics import Diagnosis, diagnose
from vaebm.sampling.hmc import HMC, HMCSettings
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, StepInfo
from vaebm.sampling.langevin import Langevin, LangevinSettings
from vaebm.sampling.mala import MALA, MALASettings
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC, AdjustedMCLMCSettings, MCLMCSettings
from vaebm.sampling.normaliser import LogNormaliser, log_normaliser
from vaebm.sampling.resampling import importance_resample
from vaebm.sampling.run import Chains, Observer, sample_chains
from vaebm.sampling.settings import SamplerSettings
from vaebm.sampling.tempering import Tempering, TemperingSettings
from vaebm.sampling.underdamped import Underdamped, UnderdampedSettings

KERNELS: dict[str, type[Kernel]] = {
    "langevin": Langevin,
    "underdamped": Underdamped,
    "mala": MALA,
    "hmc": HMC,
    "mclmc": MCLMC,
    "adjusted_mclmc": AdjustedMCLMC,
    "tempering": Tempering,
}
"""Kernels by the `kind` of their settings; each needs no arguments."""

Sampler = Annotated[
    LangevinSettings
    | UnderdampedSettings
    | MALASettings
    | HMCSettings
    | MCLMCSettings
    | AdjustedMCLMCSettings
    | TemperingSettings,
    Field(discriminator="kind"),
]
"""What a recipe may say under `sampler`."""

__all__ = [
    "KERNELS",
    "ChainState",
    "Chains",
    "Diagnosis",
    "Kernel",
    "LogDensity",
    "LogNormaliser",
    "Observer",
    "ReplayBuffer",
    "Sampler",
    "SamplerSettings",
    "StepInfo",
    "compiled",
    "diagnose",
    "importance_resample",
    "log_normaliser",
    "sample_chains",
]
