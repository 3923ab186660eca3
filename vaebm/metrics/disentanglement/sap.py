r"""Separated attribute predictability: how much better the best single latent classifies a factor than the second best.

    SAP = mean_k [ S_j1k - S_j2k ],     S_jk = accuracy of a linear classifier of factor k that sees latent j alone

S is measured on a third of the rows, after fitting on the others; j1 and j2 are the latents with the two largest S_jk.
The classifier is a linear support vector machine with C = 0.01 and balanced classes, on codes as they are (Locatello
et al., ICML 2019, https://arxiv.org/abs/1811.12359), so the score depends on their scale.

Reference: Kumar, Sattigeri & Balakrishnan, Variational inference of disentangled latent concepts from unlabeled
observations, ICLR 2018, https://arxiv.org/abs/1711.00848.
"""

from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from vaebm.metrics.arrays import Array, Rows
from vaebm.metrics.disentanglement.coded_factors import CodedFactors, scored
from vaebm.metrics.measurement import Measurement

C = 0.01


def sap(codes: Rows, factors: Array, *, resamples: SupportsIndex = 10, seed: int = 0) -> Measurement:
    """The score of codes (N, dim) and factors (N, K), whole numbers; numpy or torch.

    Args:
        codes: such as posterior means.
        factors: which value each factor has.
        resamples: random halves for the standard error.
        seed: of halves and of the parts to fit and to test.

    Raises:
        InputError: codes and factors that do not belong together (metrics/disentanglement/coded_factors.py).
    """

    def score(part: CodedFactors, generator: torch.Generator) -> dict[str, float]:
        second, first = np.sort(accuracies(*part.train_and_test(generator)), axis=0)[-2:]
        return {"sap": float((first - second).mean())}

    settings = {"classifier": "LinearSVC", "C": C}
    return scored(score, CodedFactors.of(codes, factors), resamples, seed, settings)["sap"]


def accuracies(train: CodedFactors, test: CodedFactors) -> NDArray[np.float64]:
    """S (dim, K)."""
    from sklearn.svm import LinearSVC

    def accuracy(j: int, k: int) -> float:
        # The primal problem of one weight is solved in a few steps, without a seed.
        machine = LinearSVC(C=C, class_weight="balanced", dual=False).fit(train.codes[:, [j]], train.factors[:, k])
        return float(machine.score(test.codes[:, [j]], test.factors[:, k]))

    (_, latents), (_, factors) = train.codes.shape, train.factors.shape
    return np.array([[accuracy(j, k) for k in range(factors)] for j in range(latents)])
