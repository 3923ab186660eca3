"""Normalised densities: what is p(x | z), p(z), and where do we know the truth exactly?"""

from vaebm.distributions.gaussian import DiagonalGaussian, standard_log_prob
from vaebm.distributions.mixture import GaussianMixture
from vaebm.distributions.pixel import Likelihood, PixelDistribution, PixelLikelihood

__all__ = [
    "DiagonalGaussian",
    "GaussianMixture",
    "Likelihood",
    "PixelDistribution",
    "PixelLikelihood",
    "standard_log_prob",
]
