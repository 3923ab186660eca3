r"""InfoMEC: modularity, compactness and explicitness, in terms of information.

    N_jk = I(z_j; v_k) / H(v_k)                                        over active latents j

    modularity     [ mean_j max_k N_jk / sum_k N_jk - 1/K ] / (1 - 1/K)          each latent is about one factor
    compactness    [ mean_k max_j N_jk / sum_j N_jk - 1/J ] / (1 - 1/J)          each factor is in one latent
    explicitness   mean_k [ H(v_k) - H_L(v_k | z) ] / H(v_k)                     factors can be read off linearly

J counts the active latents, those whose range is more than an eighth of the largest; quantised ones, those that vary.
H_L is the predictive entropy under linear models: the mean negative log-likelihood, in nats, of a multinomial logistic
regression without penalty on all latents, fitted to the same rows as published, by at most 100 steps of L-BFGS. Unlike
there, classes are not weighted, so that a regression on nothing has the entropy H(v_k).

I(z_j; v_k) of quantised latents is that of the table of their values. Of continuous ones it is estimated from distances
to the three nearest neighbours (Ross, PLoS ONE 2014, https://doi.org/10.1371/journal.pone.0087357; scikit-learn's
`mutual_info_classif`), so there are no bins.

A latent that no factor moves has the rows of N near 0, and its quotient is made of noise: at 0 exactly it counts as
1/K, a latent about all factors alike.

Reference: Hsu, Dorrell, Whittington, Wu & Finn, Disentanglement via latent quantization, NeurIPS 2023,
https://arxiv.org/abs/2305.18378.
"""

import warnings
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.errors import InputError
from vaebm.metrics.arrays import Array, Rows
from vaebm.metrics.disentanglement.coded_factors import CodedFactors, scored
from vaebm.metrics.disentanglement.mutual_information import factor_entropies, mutual_information, quantised
from vaebm.metrics.measurement import Measurement

ACTIVE = 1 / 8  # of the largest range
STEPS = 100


def infomec(
    codes: Rows, factors: Array, *, discrete: bool = False, resamples: SupportsIndex = 4, seed: int = 0
) -> dict[str, Measurement]:
    """`infomec_modularity`, `infomec_compactness` and `infomec_explicitness` of codes (N, dim) and factors (N, K).

    Args:
        codes: such as posterior means; numpy or torch.
        factors: which value each factor has; K at least 2.
        discrete: whether latents are quantised, a few values each.
        resamples: random halves for the standard errors.
        seed: of halves, and of the noise by which ties between neighbours are broken.

    Raises:
        InputError: fewer than two active latents, or codes and factors that do not belong together
            (metrics/disentanglement/coded_factors.py).
    """
    data = CodedFactors.of(codes, factors, fewest=2)
    ranges = np.ptp(data.codes, axis=0)
    active = np.flatnonzero(ranges > (0.0 if discrete else ACTIVE * ranges.max()))
    if len(active) < 2:
        raise InputError(
            f"latent {active[0]} alone is active, its range more than eight times any other's: look for posterior"
            " collapse, or bring latents to one scale"
        )
    pruned = CodedFactors(data.codes[:, active], data.factors, data.sizes)

    def score(part: CodedFactors, generator: torch.Generator) -> dict[str, float]:
        information = _discrete(part) if discrete else _continuous(part, generator)
        normalised = information / factor_entropies(part)
        return {
            "infomec_modularity": concentration(normalised),
            "infomec_compactness": concentration(normalised.T),
            "infomec_explicitness": explicitness(part, discrete),
        }

    settings = {"latents": "quantised" if discrete else "continuous", "active_latents": active.tolist()}
    return scored(score, pruned, resamples, seed, settings)


def concentration(table: NDArray[np.float64]) -> float:
    """The mean over rows of max / sum, brought from [1 / columns, 1] to [0, 1]."""
    even = 1.0 / table.shape[1]
    total = table.sum(1)
    largest = np.divide(table.max(1), total, out=np.full(len(table), even), where=total > 0)
    return float((largest.mean() - even) / (1.0 - even))


def explicitness(data: CodedFactors, discrete: bool) -> float:
    """Of latents as they are, or, where they are quantised, with a weight for each value."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    inputs = (OneHotEncoder() if discrete else StandardScaler()).fit_transform(data.codes)
    told = []
    for factor, uncertainty in zip(data.factors.T, factor_entropies(data), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # as published, it stops after STEPS
            model = LogisticRegression(C=np.inf, max_iter=STEPS).fit(inputs, factor)
        left = log_loss(factor, model.predict_proba(inputs), labels=model.classes_)
        told.append((uncertainty - left) / uncertainty)
    return float(np.mean(told))


def _discrete(data: CodedFactors) -> NDArray[np.float64]:
    return mutual_information(quantised(data.codes), data)


def _continuous(data: CodedFactors, generator: torch.Generator) -> NDArray[np.float64]:
    from sklearn.feature_selection import mutual_info_classif

    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    found = [mutual_info_classif(data.codes, v, discrete_features=False, random_state=seed) for v in data.factors.T]
    return np.stack(found, axis=1)
