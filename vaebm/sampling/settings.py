"""Sampler settings: what a recipe may say of a sampler, whichever its kernel.

Each kernel's own settings stand beside it and derive from this; `kind` tells them apart, `build()` gives the kernel.
"""

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vaebm.sampling.kernel import Kernel


class SamplerSettings(BaseModel):
    """How long chains run."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(100, ge=1, description="kernel steps of each chain after the warm-up")
    warmup: int = Field(0, ge=0, description="steps that learn the kernel's numbers and are not kept")

    def build(self, inverse_mass: float | Tensor = 1.0) -> Kernel:
        """The kernel with these numbers, its moves scaled by `inverse_mass` as long as a warm-up has learned none."""
        raise NotImplementedError
