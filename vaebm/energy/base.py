"""What an energy is: a function of (x, z), low where the model should have more mass than the VAE gives it.

    h(x, z) = p(x, z) exp(-E(x, z)) / Z,      low energy = likely, everywhere

The energy is a sum of terms (energy/total.py). A term reads what it needs: E_x only x, E_z only z, a joint one both. A
term on z may know exact samples of p(z) exp(-E_z(z)). Every net ends in a linear layer that starts at zero, so an
untrained energy is exactly 0 and the model is the VAE.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.distributions.gaussian import at_least_float32
from vaebm.distributions.mixture import GaussianMixture
from vaebm.registry import Registry, Settings


class Energy(nn.Module, ABC):
    """One term of E(x, z); `reads_x` and `reads_z` say what it looks at."""

    reads_x: bool = False
    reads_z: bool = False

    @abstractmethod
    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """E(x, z) of (B, *data_shape) and (B, latent_dim), to (B,), in nats, up to a constant."""

    def by_member(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """The same, for a loss that is a sum over rows: where several nets learn apart, row by row that of one."""
        energy: Tensor = self(x, z)
        return energy

    def frozen_copy(self) -> Self:
        """A copy whose weights take no gradient: the energy as it is now, while the original goes on learning."""
        return copy.deepcopy(self).requires_grad_(False)

    def set_mixture(self, mixture: GaussianMixture) -> None:
        """Takes the mixture fitted to the codes; only a term that is built on one has a use for it."""


class DataEnergy(Energy):
    """A term E_x(x)."""

    reads_x = True

    @abstractmethod
    def of_x(self, x: Tensor) -> Tensor:
        """E_x(x) of (B, *data_shape), to (B,)."""

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        if x is None:
            raise ValueError("this energy reads x: pass the data points, not only their codes")
        return at_least_float32(self.of_x(x))


class LatentEnergy(Energy):
    """A term E_z(z), with exact samples of p(z) exp(-E_z(z)); it is built on the mixture fitted to the codes.

    Where E_z costs far more than a sample of it, the term `carries`: its codes are a map of draws of the mixture, and
    chains can move these (models/noise_space.py).
    """

    reads_z = True
    carries = False
    mixture: GaussianMixture

    @abstractmethod
    def of_z(self, z: Tensor) -> Tensor:
        """E_z(z) of (B, latent_dim), to (B,)."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, code_dim) draws of p(z) exp(-E_z(z)), in no order."""

    def carry(self, source: Tensor) -> Tensor:
        """Codes (B, code_dim) of draws of the mixture, differentiable; only of a term that `carries`."""
        raise TypeError(f"{type(self).__name__} carries no draws of its mixture")

    def uncarry(self, codes: Tensor) -> Tensor:
        """The draws of the mixture that are carried to `codes`, up to the steps of the map."""
        raise TypeError(f"{type(self).__name__} carries no draws of its mixture")

    def log_normaliser(self, generator: torch.Generator) -> float:
        """log of the integral of p(z) exp(-E_z(z)), in nats: 0, unless a term says otherwise."""
        return 0.0

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        if z is None:
            raise ValueError("this energy has a term on z: pass z, for example z = model.encode(x)")
        return at_least_float32(self.of_z(z))

    def set_mixture(self, mixture: GaussianMixture) -> None:
        self.mixture.load_state_dict(mixture.state_dict())


class _ToEnergy(nn.Linear):
    """Float32 under an autocast too: eight bits would leave a step of a half between energies of 100."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


def linear_from_zero(in_features: int) -> nn.Linear:
    """The last layer of an energy net: one output, 0 before training."""
    layer = _ToEnergy(in_features, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _TermSettings(Settings, ABC):
    kind: str = Field(description="which energy")


class DataEnergySettings(_TermSettings):
    """A term on x as a recipe describes it, under `energy.image`."""

    @abstractmethod
    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> DataEnergy:
        """E_x for data of this shape, weights drawn from `generator`."""


class LatentEnergySettings(_TermSettings):
    """A term on z as a recipe describes it, under `energy.latent`."""

    @abstractmethod
    def build(self, code_dim: int, components: int, generator: torch.Generator) -> LatentEnergy:
        """E_z with a mixture of `components` still to be fitted, weights drawn from `generator`."""


class JointEnergySettings(_TermSettings):
    """A term on x and z as a recipe describes it, under `energy.joint`."""

    @abstractmethod
    def build(self, data_shape: tuple[int, ...], latent_dim: int, generator: torch.Generator) -> Energy:
        """E(x, z) for data of this shape and z (B, latent_dim), weights drawn from `generator`."""


DATA_ENERGIES: Registry[type[DataEnergySettings]] = Registry("energy on x")
LATENT_ENERGIES: Registry[type[LatentEnergySettings]] = Registry("energy on z")
JOINT_ENERGIES: Registry[type[JointEnergySettings]] = Registry("energy on x and z")
