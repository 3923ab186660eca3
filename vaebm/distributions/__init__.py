"""Normalised densities: what is p(x | z), p(z), and where do we know the truth exactly?"""

from vaebm.distributions.gaussian import DiagonalGaussian, standard_log_prob
from vaebm.distributions.likelihood import Likelihood, LikelihoodHead, LikelihoodSettings
from vaebm.distributions.mixture import GaussianMixture

__all__ = [
    "DiagonalGaussian",
    "GaussianMixture",
    "Likelihood",
    "LikelihoodHead",
    "LikelihoodSettings",
    "standard_log_prob",
]
