"""E_x as the mean of several nets that learn apart.

    E_x(x) = (1 / k) sum_i E_i(x)

Each net overfits in its own way, and the mean does less of it: log Z is convex in E, so the gain -mean E - log Z of the
mean is never below the mean of the nets' gains, whatever the data. While they learn, row i of a batch is seen by net
i mod k alone, so each has its own part of the batch and a loss of its own. Afterwards a gradient costs that of k nets.

Hansen & Salamon, Neural network ensembles, 1990, https://doi.org/10.1109/34.58871
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, WithJsonSchema, field_validator
from torch import Tensor, nn

from vaebm.energy.base import DATA_ENERGIES, DataEnergy, DataEnergySettings

OBJECT = WithJsonSchema({"type": "object"})  # a kind that holds its own kind would have no end


class EnsembleEnergy(DataEnergy):
    """(B, *data_shape) -> (B,)."""

    def __init__(self, members: list[DataEnergy]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def of_x(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)

    def by_member(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        if x is None:
            raise ValueError("this energy reads x: pass the data points, not only their codes")
        k = len(self.members)
        parts = [member(x[i::k]) for i, member in enumerate(self.members)]
        energy = torch.empty(len(x), dtype=parts[0].dtype, device=x.device)
        for i, part in enumerate(parts):
            energy[i::k] = part
        return energy


class EnsembleEnergySettings(DataEnergySettings):
    """The mean of several E_x of one kind."""

    kind: Literal["ensemble"] = Field("ensemble", description="the mean of several nets that learn apart")
    members: int = Field(
        3, ge=1, le=100, description="number of nets; each is one more to evaluate at every step of a chain"
    )
    member: Annotated[DataEnergySettings, DATA_ENERGIES, OBJECT] = Field(description="what each of the nets is")

    @field_validator("member")
    @classmethod
    def _one_net(cls, member: DataEnergySettings) -> DataEnergySettings:
        if isinstance(member, EnsembleEnergySettings):
            raise ValueError("an ensemble of ensembles is one ensemble: name its nets")
        return member

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> DataEnergy:
        return EnsembleEnergy([self.member.build(data_shape, generator) for _ in range(self.members)])
