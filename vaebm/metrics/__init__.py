"""Measurements: how good are the samples or the codes, and how sure is that?

Functions of samples take (generated, reference), those of codes (codes, factors).
"""

from vaebm.metrics.classifier import Classifier, StackedClassifier, train_classifier, train_stacked_classifier
from vaebm.metrics.disentanglement import dci, factor_vae_score, infomec, mig, sap
from vaebm.metrics.features import (
    Features,
    classifier_features,
    inception_features,
    inception_layer,
    pixel_features,
    real_features,
)
from vaebm.metrics.few_labels import few_label_accuracy
from vaebm.metrics.frechet import Moments, frechet_distance, frechet_from_moments
from vaebm.metrics.kernel_distance import kernel_distance
from vaebm.metrics.manifold import Manifold, density_coverage, precision_recall
from vaebm.metrics.measurement import Measurement
from vaebm.metrics.memorisation import memorised_fraction
from vaebm.metrics.modes import class_gap, class_modes, mode_measurements
from vaebm.metrics.quadrature import PlaneQuadrature
from vaebm.metrics.saturation import pixels_between_ends

__all__ = [
    "Classifier",
    "Features",
    "Manifold",
    "Measurement",
    "Moments",
    "PlaneQuadrature",
    "StackedClassifier",
    "class_gap",
    "class_modes",
    "classifier_features",
    "dci",
    "density_coverage",
    "factor_vae_score",
    "few_label_accuracy",
    "frechet_distance",
    "frechet_from_moments",
    "inception_features",
    "inception_layer",
    "infomec",
    "kernel_distance",
    "memorised_fraction",
    "mig",
    "mode_measurements",
    "pixel_features",
    "pixels_between_ends",
    "precision_recall",
    "real_features",
    "sap",
    "train_classifier",
    "train_stacked_classifier",
]
