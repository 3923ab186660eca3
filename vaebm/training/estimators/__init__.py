"""Estimators: how does the energy learn from data and, where it needs them, samples of the model?

| estimator | samples | loss | use |
| --- | --- | --- | --- |
| `density_ratio` | of the base | logistic | where to begin: it cannot run away |
| `importance` | of the base | log-likelihood, log Z by importance | refines where the base covers the data |
| `ratio_rounds` | a pool of chains | logistic, against the old model | goes on where the base does not |
| `contrastive_divergence` | short chains | difference of energies | the paper's |
| `denoising` | none | squared error of denoised images | where `energy.noise_std` adds noise |
| `score_matching` | none | squared error of the model's score | what is narrow, beside a ratio |
| latent ratio, likelihood, flow matching | of the mixture or none | logistic; nats; error of a velocity | on codes |
"""

from vaebm.energy import FlowEnergy, MixtureEnergy, SplineFlowEnergy
from vaebm.training.estimators.base import ESTIMATORS, Estimator, EstimatorSettings, PhaseDefaults
from vaebm.training.estimators.contrastive_divergence import ContrastiveDivergence
from vaebm.training.estimators.denoising import Denoising
from vaebm.training.estimators.density_ratio import DensityRatio
from vaebm.training.estimators.flow_matching import FlowMatching
from vaebm.training.estimators.importance import Importance
from vaebm.training.estimators.latent import LATENT_ESTIMATORS, LatentStageSettings, latent_stages
from vaebm.training.estimators.latent_likelihood import LatentLikelihood
from vaebm.training.estimators.latent_ratio import LatentRatio
from vaebm.training.estimators.ratio_rounds import RatioRounds
from vaebm.training.estimators.score_matching import ScoreMatching

for _estimator in (DensityRatio, Denoising, ScoreMatching, Importance, ContrastiveDivergence, RatioRounds):
    ESTIMATORS.register(_estimator)
LATENT_ESTIMATORS[MixtureEnergy] = LatentRatio
LATENT_ESTIMATORS[FlowEnergy] = FlowMatching
LATENT_ESTIMATORS[SplineFlowEnergy] = LatentLikelihood

__all__ = [
    "ESTIMATORS",
    "LATENT_ESTIMATORS",
    "Estimator",
    "EstimatorSettings",
    "LatentStageSettings",
    "PhaseDefaults",
    "latent_stages",
]
