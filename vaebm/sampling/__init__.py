"""Sampling: chains that draw from a log-density.

A target is any function (chain, dim) -> (chain,); nothing here knows what a model is. `kernel` is the contract, one
file holds one algorithm, `run` runs chains, `buffer` keeps them between training steps, `adaptation` is what a
warm-up learns by.
"""

from vaebm.sampling.block_gibbs import BlockGibbs
from vaebm.sampling.buffer import ReplayBuffer
from vaebm.sampling.compiled import compiled
from vaebm.sampling.diagnostics import Diagnosis, diagnose
from vaebm.sampling.hmc import HMC
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, StepInfo, Unsuitable
from vaebm.sampling.langevin import MALA, Langevin
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC
from vaebm.sampling.normaliser import LogNormaliser, log_normaliser
from vaebm.sampling.resampling import importance_resample
from vaebm.sampling.run import Chains, Observer, sample_chains
from vaebm.sampling.settings import KERNELS, Sampler, SamplerSettings
from vaebm.sampling.tempering import Tempering
from vaebm.sampling.underdamped import Underdamped

for _kernel in (Langevin, Underdamped, MALA, HMC, MCLMC, AdjustedMCLMC, Tempering, BlockGibbs):
    KERNELS.register(_kernel)

__all__ = [
    "KERNELS",
    "BlockGibbs",
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
    "Unsuitable",
    "compiled",
    "diagnose",
    "importance_resample",
    "log_normaliser",
    "sample_chains",
]
