"""The product of VAE and energy: what is the corrected density, and how is its energy learned?"""

from vaebm.hybrid.noise import Noise
from vaebm.hybrid.settings import EnergySettings, ModelSettings, Show, StartSettings, Subject
from vaebm.hybrid.vaebm import VAEBM

__all__ = ["VAEBM", "EnergySettings", "ModelSettings", "Noise", "Show", "StartSettings", "Subject"]
