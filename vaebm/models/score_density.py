"""The density of scores: a Gaussian fitted to the parts of samples that a model was not fitted to, and its calibration.

    score(x)    -log N(u; m, S),   u the parts of x (models/score_parts.py)
    p_value(x)  (1 + #{i: score_i >= score(x)}) / (n + 1)
    share_j(x)  (u - m)_j (S^{-1} (u - m))_j, what part j adds to twice the score, up to a constant

The likelihood of a VAE alone says little of whether a sample is of the kind of its data: what is simple is likely. Its
parts move together on such data, and apart on others (LPath, https://arxiv.org/abs/2401.04933, does this with four of
them; DoSE, Morningstar et al., AISTATS 2021, https://arxiv.org/abs/2006.09273, with densities of statistics). The score
sees all parts but those that are sums of others.

Shares say why a sample is strange. They sum to (u - m)^T S^{-1} (u - m), and over ordinary data each is 1 on average,
or less where a part nearly follows from the others. Of one sample a share may be negative.

The Gaussian is fitted to all n samples, and calibrated to scores that each of them got from a Gaussian fitted to the
other nine tenths (Vovk, Cross-conformal predictors, 2015, https://arxiv.org/abs/1208.0806). For new data of the same
kind the p-value is then uniform on 1 / (n + 1), ..., 1, up to what a tenth of the data more makes of a fit. The least
p-value that there can be, 1 / (n + 1), is its resolution.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaebm.distributions.gaussian import HALF_LOG_TWO_PI
from vaebm.errors import InputError
from vaebm.files import write_atomically

FILE = "detector.safetensors"
SUMS = ("energy", "log_likelihood")  # of the parts called NAME_..., where there are any
FOLDS = 10
RIDGE = 1e-3  # on the diagonal of the covariance, in squares of the spread: parts may nearly depend on each other
MIN_SAMPLES = 20


@dataclass(frozen=True, eq=False)
class ScoreDensity:
    """A Gaussian over d parts, and n scores of samples that it was not fitted to.

    Args:
        names: of the parts.
        center: (d,) float64, their mean.
        whitening: (d, d), with whitening^T whitening the inverse of their covariance.
        scores: (n,), sorted.
    """

    names: tuple[str, ...]
    center: Tensor
    whitening: Tensor
    scores: Tensor

    @classmethod
    def fit(cls, parts: Mapping[str, Tensor]) -> Self:
        """Of samples by part, (n,) each.

        Raises:
            InputError: fewer than MIN_SAMPLES, or all alike.
        """
        n = len(next(iter(parts.values())))
        if n < MIN_SAMPLES:
            raise InputError(
                f"there are {n} samples to calibrate a score on: give at least {MIN_SAMPLES} that the model was not"
                " fitted to, by --reference or model.calibrate(x)"
            )
        names = [name for name in parts if name not in SUMS or not any(p.startswith(f"{name}_") for p in parts)]
        values = torch.stack([parts[name] for name in names], dim=1)
        varies = values.std(0) > 0
        if not varies.any():
            raise InputError(f"the {n} samples to calibrate a score on are all the same: give others")
        names, values = [name for name, there in zip(names, varies.tolist(), strict=True) if there], values[:, varies]
        fold = torch.arange(n) % FOLDS
        scores = torch.empty(n, dtype=torch.float64)
        for k in range(FOLDS):
            scores[fold == k] = _score(values[fold == k], *_fitted(values[fold != k]))
        return cls(tuple(names), *_fitted(values), scores.sort().values)

    def score(self, parts: Mapping[str, Tensor]) -> Tensor:
        """-log density, (n,), in nats."""
        return _score(torch.stack([parts[name] for name in self.names], dim=1), self.center, self.whitening)

    def shares(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each of `names` adds, (n,)."""
        centred = torch.stack([parts[name] for name in self.names], dim=1) - self.center
        shares = centred * (centred @ self.whitening.mT @ self.whitening)
        return dict(zip(self.names, shares.unbind(1), strict=True))

    def p_value(self, score: Tensor) -> Tensor:
        """Of scores (n,): (n,) in (0, 1]."""
        below = torch.searchsorted(self.scores, score.contiguous())
        return (1 + len(self.scores) - below).double() / (len(self.scores) + 1)

    def save(self, folder: Path) -> None:
        """Into detector.safetensors of a folder, whole or not at all."""
        tensors = {"center": self.center, "whitening": self.whitening, "scores": self.scores}
        write_atomically(folder / FILE, save(tensors, {"parts": json.dumps(self.names)}))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Of a folder; None where it has none.

        Raises:
            InputError: the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in ("center", "whitening", "scores")}
                return cls(tuple(json.loads(file.metadata()["parts"])), **tensors)
        except (SafetensorError, ValueError, KeyError, TypeError) as damage:
            raise InputError(f"{path} is damaged ({type(damage).__name__}): delete it, it is made anew") from None


def _fitted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and whitening of the covariance, of parts (n, d)."""
    quartiles = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype), dim=0)
    spread = (quartiles[2] - quartiles[0]).clamp_min(1e-6 * values.std(0))  # a few far out do not hide the rest
    covariance = ((values - quartiles[1]) / spread).mT.cov() + RIDGE * torch.eye(len(spread), dtype=values.dtype)
    factor = torch.linalg.cholesky(covariance)
    return values.mean(0), torch.linalg.solve_triangular(factor, torch.diag(1.0 / spread), upper=False).contiguous()


def _score(values: Tensor, center: Tensor, whitening: Tensor) -> Tensor:
    """-log N(values; center, S), (n,), part by part: a matrix product would round by the number of samples."""
    centred = (values - center).unbind(1)
    white: list[Tensor] = [
        sum((factor * u for factor, u in zip(row.tolist(), centred, strict=True)), values.new_zeros(len(values)))
        for row in whitening
    ]
    constant = len(centred) * HALF_LOG_TWO_PI - float(whitening.diagonal().log().sum())
    distance: Tensor = sum((w.square() for w in white), values.new_zeros(len(values)))
    return 0.5 * distance + constant
