"""Models: what is the density of VAE and energy together, and how is it pulled back to noise, drawn and saved?"""

from vaebm.models.base import SHOWS, Model, ModelSettings, Show
from vaebm.models.cebm import CEBM, CEBMSettings
from vaebm.models.draw_settings import DrawSettings, InitSettings
from vaebm.models.draws import CHAINS_AT_ONCE, NoiseSpaceModel, in_noise_space
from vaebm.models.noise_space import Noise
from vaebm.models.saved import MODELS, load_model
from vaebm.models.settings import VAEBMSettings
from vaebm.models.vaebm import VAEBM

__all__ = [
    "CEBM",
    "CHAINS_AT_ONCE",
    "MODELS",
    "SHOWS",
    "VAEBM",
    "CEBMSettings",
    "DrawSettings",
    "InitSettings",
    "Model",
    "ModelSettings",
    "Noise",
    "NoiseSpaceModel",
    "Show",
    "VAEBMSettings",
    "in_noise_space",
    "load_model",
]
