r"""DCI: do latents stand for one factor each, are factors in one latent each, and can they be told from the codes?

Boosted trees learn each factor k from the codes; R_jk >= 0 is the importance of latent j in them, with sum_j R_jk = 1.

    disentanglement   sum_j rho_j (1 - H(R_j. / sum_k R_jk) / log K),     rho_j = sum_k R_jk / sum R
    completeness      sum_k (1 - H(R_.k) / log dim) / K
    informativeness   mean_k accuracy on rows that no tree has seen

each from 0 to 1. Trees: 100 rounds, three levels, learning rate 0.1, as in Locatello et al. (ICML 2019,
https://arxiv.org/abs/1811.12359), by scikit-learn's HistGradientBoostingClassifier: on 10,000 codes its histograms of
256 values are twenty times as fast as exact thresholds. R_jk is the loss that the splits on latent j saved, summed over
all trees; a factor of which no tree splits is in all latents alike. Rows: two thirds to fit, one third to test.

Reference: Eastwood & Williams, A framework for the quantitative evaluation of disentangled representations, ICLR 2018,
https://openreview.net/forum?id=By-7dz-AZ.
"""

from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.metrics.arrays import Array, Rows
from vaebm.metrics.disentanglement.coded_factors import CodedFactors, scored
from vaebm.metrics.disentanglement.mutual_information import entropy
from vaebm.metrics.measurement import Measurement

TREES = {"max_iter": 100, "max_depth": 3, "learning_rate": 0.1, "early_stopping": False}


def dci(codes: Rows, factors: Array, *, resamples: SupportsIndex = 4, seed: int = 0) -> dict[str, Measurement]:
    """`dci_disentanglement`, `dci_completeness` and `dci_informativeness` of codes (N, dim) and factors (N, K).

    Args:
        codes: such as posterior means; numpy or torch.
        factors: which value each factor has; K at least 2.
        resamples: random halves for the standard errors.
        seed: of halves and of the parts to fit and to test.

    Raises:
        InputError: codes and factors that do not belong together (metrics/disentanglement/coded_factors.py).
    """
    settings = {"classifier": "HistGradientBoostingClassifier", **TREES}
    return scored(_score, CodedFactors.of(codes, factors, fewest=2), resamples, seed, settings)


def _score(data: CodedFactors, generator: torch.Generator) -> dict[str, float]:
    importances, accuracy = importances_and_accuracy(*data.train_and_test(generator))
    return {
        "dci_disentanglement": disentanglement(importances),
        "dci_completeness": completeness(importances),
        "dci_informativeness": float(accuracy.mean()),
    }


def disentanglement(importances: NDArray[np.float64]) -> float:
    """Of R (dim, K)."""
    weights = importances.sum(1) / importances.sum()
    used = weights > 0
    entropies = np.array([entropy(row) for row in importances[used]])
    return float((weights[used] * (1.0 - entropies / np.log(importances.shape[1]))).sum())


def completeness(importances: NDArray[np.float64]) -> float:
    """Of R (dim, K)."""
    entropies = np.array([entropy(column) for column in importances.T])
    return float((1.0 - entropies / np.log(len(importances))).mean())


def importances_and_accuracy(
    train: CodedFactors, test: CodedFactors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R (dim, K) and accuracy (K,)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    importances, accuracy = [], []
    for k in range(train.factors.shape[1]):
        trees = HistGradientBoostingClassifier(**TREES).fit(train.codes, train.factors[:, k])
        saved = np.zeros(train.codes.shape[1])
        for tree in (tree for of_round in trees._predictors for tree in of_round):  # no public name has the gains
            splits = tree.nodes[tree.nodes["is_leaf"] == 0]
            np.add.at(saved, splits["feature_idx"], splits["gain"])
        importances.append(saved / saved.sum() if saved.any() else np.full_like(saved, 1 / len(saved)))
        accuracy.append(trees.score(test.codes, test.factors[:, k]))
    return np.stack(importances, axis=1), np.array(accuracy)
