"""Disentanglement: does each latent stand for one factor of variation? Of codes (N, dim) and factors (N, K) alone."""

from vaebm.metrics.disentanglement.dci import dci
from vaebm.metrics.disentanglement.factor_vae import factor_vae_score
from vaebm.metrics.disentanglement.infomec import infomec
from vaebm.metrics.disentanglement.mig import mig
from vaebm.metrics.disentanglement.sap import sap

__all__ = ["dci", "factor_vae_score", "infomec", "mig", "sap"]
