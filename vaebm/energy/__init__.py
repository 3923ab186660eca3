"""Energies: where does the VAE put too much mass, and where too little?"""

from vaebm.energy.base import (
    DATA_ENERGIES,
    JOINT_ENERGIES,
    LATENT_ENERGIES,
    DataEnergy,
    DataEnergySettings,
    Energy,
    JointEnergySettings,
    LatentEnergy,
    LatentEnergySettings,
)
from vaebm.energy.decoded import DecodedEnergy
from vaebm.energy.ensemble import EnsembleEnergySettings
from vaebm.energy.flow import FlowEnergy, FlowSettings
from vaebm.energy.joint import JointMLPSettings, JointResidualSettings
from vaebm.energy.latent import CorrectionSettings, MixtureEnergy, MixtureEnergySettings
from vaebm.energy.mlp import MLPEnergySettings
from vaebm.energy.residual import ResidualEnergySettings
from vaebm.energy.settings import EnergySettings
from vaebm.energy.spline_flow import SplineFlowEnergy, SplineFlowSettings
from vaebm.energy.total import TotalEnergy

DATA_ENERGIES.register(MLPEnergySettings)
DATA_ENERGIES.register(ResidualEnergySettings)
DATA_ENERGIES.register(EnsembleEnergySettings)
LATENT_ENERGIES.register(MixtureEnergySettings)
LATENT_ENERGIES.register(CorrectionSettings)
LATENT_ENERGIES.register(FlowSettings)
LATENT_ENERGIES.register(SplineFlowSettings)
JOINT_ENERGIES.register(JointMLPSettings)
JOINT_ENERGIES.register(JointResidualSettings)

__all__ = [
    "DATA_ENERGIES",
    "JOINT_ENERGIES",
    "LATENT_ENERGIES",
    "CorrectionSettings",
    "DataEnergy",
    "DataEnergySettings",
    "DecodedEnergy",
    "Energy",
    "EnergySettings",
    "EnsembleEnergySettings",
    "FlowEnergy",
    "FlowSettings",
    "JointEnergySettings",
    "JointMLPSettings",
    "JointResidualSettings",
    "LatentEnergy",
    "LatentEnergySettings",
    "MLPEnergySettings",
    "MixtureEnergy",
    "MixtureEnergySettings",
    "ResidualEnergySettings",
    "SplineFlowEnergy",
    "SplineFlowSettings",
    "TotalEnergy",
]
