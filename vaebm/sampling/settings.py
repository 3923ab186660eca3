"""Sampler settings: what a recipe says of a sampler, derived from what its kernel declares.

`KERNELS` holds every kernel by its `kind`. The settings of a kernel are its numbers, with their bounds and
descriptions, and how long its chains run; `build()` gives the kernel.
"""

from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

from pydantic import Field, create_model
from torch import Tensor

from vaebm.registry import Registry, Settings
from vaebm.sampling.kernel import Kernel, Number

Steps = Annotated[int, Field(ge=1, description="kernel steps of each chain after the warm-up")]
Warmup = Annotated[int, Field(ge=0, description="steps that learn the kernel's numbers and are not kept")]
Gradients = Annotated[
    int | None,
    Field(ge=2, description="bound on the gradient evaluations of each chain, warm-up included; null: no bound"),
]


class SamplerSettings(Settings):
    """What the settings of all kernels share."""

    builds: ClassVar[type[Kernel]]

    kind: str = Field("", description="the kernel that moves the chains")
    steps: Steps = 100
    warmup: Warmup = 0
    gradients: Gradients = None

    def build(self, inverse_mass: float | Tensor = 1.0) -> Kernel:
        """The kernel with these numbers, its moves scaled by `inverse_mass` as long as a warm-up has learned none."""
        numbers = {
            name: getattr(self, name) for name in type(self).model_fields if name not in SamplerSettings.model_fields
        }
        return self.builds.build(numbers, inverse_mass)


@cache
def settings_of(kernel: type[Kernel]) -> type[SamplerSettings]:
    """`sampler: {kind: ..., ...}` of a kernel."""
    hints = get_type_hints(kernel, include_extras=True)
    declared = {
        field.name: field.metadata[Number] for field in kernel.__dataclass_fields__.values() if Number in field.metadata
    }
    said: dict[str, Any] = {
        name: (
            # A step size for each chain is for Python alone.
            float if Tensor in get_args(hints[name]) else hints[name],
            Field(number.recipe_default, description=number.description, **number.bounds),
        )
        for name, number in declared.items()
        if number.in_recipe
    }
    length = kernel.run_length
    said |= kernel.recipe_fields
    said |= {
        "steps": (Steps, length.steps),
        "warmup": (Warmup, length.warmup),
        "gradients": (Gradients, length.gradients),
    }
    said["kind"] = (
        Literal[kernel.kind],
        Field(kernel.kind, description=SamplerSettings.model_fields["kind"].description),
    )
    settings = create_model(
        f"{kernel.__name__}Settings",
        __base__=SamplerSettings,
        __module__=kernel.__module__,
        __doc__=f"`sampler: {{kind: {kernel.kind}, ...}}` in a recipe.",
        **said,
    )
    settings.builds = kernel
    return settings


KERNELS: Registry[type[Kernel]] = Registry("sampler", settings_of)
"""Kernels by the `kind` of their settings; each needs no arguments."""

Sampler = Annotated[SamplerSettings, KERNELS]
"""What a recipe may say under `sampler`."""
