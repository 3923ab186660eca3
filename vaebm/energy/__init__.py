"""Energies: where does the VAE put too much mass, and where too little?"""

from vaebm.energy.base import DataEnergy, Energy, LatentEnergy
from vaebm.energy.decoded import DecodedEnergy
from vaebm.energy.flow import FlowEnergy, FlowSettings
from vaebm.energy.latent import CorrectionSettings, MixtureEnergy, MixtureEnergySettings
from vaebm.energy.mlp import MLPEnergySettings
from vaebm.energy.residual import ResidualEnergySettings
from vaebm.energy.settings import DataEnergySettings, EnergySettings, LatentEnergySettings
from vaebm.energy.total import TotalEnergy

__all__ = [
    "CorrectionSettings",
    "DataEnergy",
    "DataEnergySettings",
    "DecodedEnergy",
    "Energy",
    "EnergySettings",
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
