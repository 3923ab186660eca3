"""Energies: where does the VAE put too much mass, and where too little?"""

from typing import Annotated

from pydantic import Field

from vaebm.energy.base import DataEnergy, Energy, LatentEnergy
from vaebm.energy.decoded import DecodedEnergy
from vaebm.energy.flow import FlowEnergy, FlowSettings
from vaebm.energy.latent import CorrectionSettings, MixtureEnergy, MixtureEnergySettings
from vaebm.energy.mlp import MLPEnergySettings
from vaebm.energy.residual import ResidualEnergySettings
from vaebm.energy.total import TotalEnergy

DataEnergySettings = Annotated[MLPEnergySettings | ResidualEnergySettings, Field(discriminator="kind")]
LatentEnergySettings = Annotated[MixtureEnergySettings | CorrectionSettings | FlowSettings, Field(discriminator="kind")]

__all__ = [
    "CorrectionSettings",
    "DataEnergy",
    "DataEnergySettings",
    "DecodedEnergy",
    "Energy",
    "FlowEnergy",
    "FlowSettings",
    "LatentEnergy",
    "LatentEnergySettings",
    "MLPEnergySettings",
    "MixtureEnergy",
    "MixtureEnergySettings",
    "ResidualEnergySettings",
    "TotalEnergy",
]
