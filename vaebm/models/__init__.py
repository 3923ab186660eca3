"""The product of VAE and energy: what is the corrected density, and how is its energy learned?"""

from vaebm.models.noise import Noise
from vaebm.models.settings import EnergySettings, InitSettings, ModelSettings, Show, Subject
from vaebm.models.vaebm import VAEBM

__all__ = ["VAEBM", "EnergySettings", "InitSettings", "ModelSettings", "Noise", "Show", "Subject"]
