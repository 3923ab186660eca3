"""Estimators of the likelihood gradient of the energy: data against samples, energies (B,) in, a loss out.

The gradient of the log-likelihood of h(x) = p(x) exp(-E(x)) / Z in E's weights is  E_h[dE] - E_data[dE].

contrastive divergence    L = mean E(x+) - mean E(x-),                   x- from chains on h      (the paper's Eq. 5)
density ratio             L = mean softplus(E(x+)) + mean softplus(-E(x-)),   x- exact samples of the reference
    optimum exp(-E) = data / reference: E is then normalised, log Z = 0                  (Gutmann & Hyvarinen 2012)
ratio to the old model    the same with logit l = E_old - E for samples x- of the *model so far*; l is centred by its
    mean over the batch, since the two normalisers differ by an unknown constant
importance likelihood     L = mean E(x+) + log mean exp(-E(x-)),         x- exact samples of the reference

At E = E_old the gradient of the ratio to the old model is half of contrastive divergence's, but its loss is bounded
below, saturates where data and samples are told apart, and its samples stay where they are while E moves: contrastive
divergence with a trust region. The centre must carry its gradient; detached, the common constant runs away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

INDISTINGUISHABLE = math.log(4.0)  # a logistic loss where data and samples cannot be told apart


class Contrast(NamedTuple):
    """A loss to minimise, and the gap mean E(x-) - mean E(x+): near 0 where the model's samples look like data."""

    loss: Tensor
    gap: Tensor


def contrastive_divergence(positive: Tensor, negative: Tensor) -> Contrast:
    """Energies of data and of chain samples, each (B,)."""
    return Contrast(positive.mean() - negative.mean(), (negative.mean() - positive.mean()).detach())


def density_ratio(positive: Tensor, negative: Tensor) -> Contrast:
    """Energies of data and of exact samples of the reference, each (B,)."""
    loss = functional.softplus(positive).mean() + functional.softplus(-negative).mean()
    return Contrast(loss, (negative.mean() - positive.mean()).detach())


def ratio_to_old(positive: Tensor, negative: Tensor, old_positive: Tensor, old_negative: Tensor) -> Contrast:
    """Energies under the new and the old net of data and of samples of the old model, each (B,)."""
    logit_positive, logit_negative = old_positive - positive, old_negative - negative
    center = 0.5 * (logit_positive.mean() + logit_negative.mean())  # keeps its gradient: see above
    loss = functional.softplus(center - logit_positive).mean() + functional.softplus(logit_negative - center).mean()
    return Contrast(loss, (negative.mean() - positive.mean()).detach())


def importance_likelihood(positive: Tensor, negative: Tensor) -> Contrast:
    """Energies of data and of exact samples of the reference, each (B,); the loss is minus the log-likelihood."""
    log_z = torch.logsumexp(-negative, dim=0) - math.log(negative.shape[0])
    return Contrast(positive.mean() + log_z, (negative.mean() - positive.mean()).detach())
