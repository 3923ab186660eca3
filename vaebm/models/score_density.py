"""The density of scores: Gaussians fitted to the parts of samples that a model was not fitted to, and its calibration.

    score(x)    -log sum_k w_k N(u; m_k, S_k),   u the parts of x (models/score_parts.py)
    p_value(x)  (1 + #{i: score_i >= score(x)}) / (n + 1)
    share_j(x)  sum_k r_k (u - m_k)_j (S_k^{-1} (u - m_k))_j,   r_k = P(k | u): what part j adds to twice the score

The likelihood of a VAE alone says little of whether a sample is of the kind of its data: what is simple is likely. Its
parts move together on such data, and apart on others (LPath, https://arxiv.org/abs/2401.04933, does this with four of
them; DoSE, Morningstar et al., AISTATS 2021, https://arxiv.org/abs/2006.09273, with densities of statistics). The score
sees all parts but those that are sums of others.

There are 1, 2, 4 or 8 Gaussians: as many as go on making samples that were left out of the fit likelier, by more than
one standard error. A few dozen samples get one; thousands get the tails and bends that one Gaussian does not have.

Shares say why a sample is strange. They sum to sum_k r_k (u - m_k)^T S_k^{-1} (u - m_k), and over ordinary data each is
1 on average, or less where a part nearly follows from the others. Of one sample a share may be negative.

The density is fitted to all n samples, and calibrated to scores that each of them got from one that was fitted to the
other nine tenths (Vovk, Cross-conformal predictors, 2015, https://arxiv.org/abs/1208.0806). For new data of the same
kind the p-value is then uniform on 1 / (n + 1), ..., 1, up to what a tenth of the data more makes of a fit. The least
p-value that there can be, 1 / (n + 1), is its resolution.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaebm.distributions.gaussian import HALF_LOG_TWO_PI
from vaebm.distributions.mixture import GaussianMixture
from vaebm.errors import InputError
from vaebm.files import write_atomically
from vaebm.vae.code_mixture import CodeMixtureSettings, fit_code_mixture
from vaebm.wording import enumerated

FILE, TENSORS = "detector.safetensors", ("log_weights", "centers", "whitening", "scores")
SUMS = ("energy", "log_likelihood")  # of the parts called NAME_..., where there are any
FOLDS = 10
COMPONENTS = (1, 2, 4, 8)  # Gaussians, of which the first that more of them do not better is taken
RIDGE = 1e-3  # on the diagonal of the covariance, in squares of the spread: parts may nearly depend on each other
MIN_SAMPLES = 20  # for each Gaussian


@dataclass(frozen=True, eq=False)
class ScoreDensity:
    """K Gaussians over d parts, and n scores of samples that they were not fitted to.

    Args:
        names: of the parts.
        log_weights: (K,) float64.
        centers: (K, d), their means.
        whitening: (K, d, d), with whitening_k^T whitening_k the inverse of a covariance.
        scores: (n,), sorted.
    """

    names: tuple[str, ...]
    log_weights: Tensor
    centers: Tensor
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
        scaled = _Scaled.of(values)
        mixture = scaled.fit(COMPONENTS[0])
        scores = scaled.cross_fitted(mixture)
        for components in (k for k in COMPONENTS[1:] if n >= MIN_SAMPLES * k):
            gain = scores - (others := scaled.cross_fitted(more := scaled.fit(components)))
            if float(gain.mean()) <= float(gain.std()) / math.sqrt(n):
                break
            mixture, scores = more, others
        return cls(tuple(names), *scaled.in_their_units(mixture), scores.sort().values)

    def score(self, parts: Mapping[str, Tensor]) -> Tensor:
        """-log density, (n,), in nats."""
        return _score(self._values(parts), self.log_weights, self.centers, self.whitening)

    def shares(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each of `names` adds, (n,)."""
        values = self._values(parts)
        joint = torch.stack(_log_joint(values, self.log_weights, self.centers, self.whitening))
        shares = torch.zeros_like(values)
        for r, center, whitening in zip(joint.softmax(0), self.centers, self.whitening, strict=True):
            centred = values - center
            shares += r[:, None] * centred * (centred @ whitening.mT @ whitening)
        return dict(zip(self.names, shares.unbind(1), strict=True))

    def _values(self, parts: Mapping[str, Tensor]) -> Tensor:
        if lacking := [name for name in self.names if name not in parts]:
            raise InputError(f"{FILE} is of another model, with {enumerated(lacking)}: delete it, it is made anew")
        return torch.stack([parts[name] for name in self.names], dim=1)

    def p_value(self, score: Tensor) -> Tensor:
        """Of scores (n,): (n,) in (0, 1]."""
        below = torch.searchsorted(self.scores, score.contiguous())
        return (1 + len(self.scores) - below).double() / (len(self.scores) + 1)

    def save(self, folder: Path) -> None:
        """Into detector.safetensors of a folder, whole or not at all."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        write_atomically(folder / FILE, save(tensors, {"parts": json.dumps(self.names)}))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Of a folder; None where it has none, or one of an earlier version.

        Raises:
            InputError: the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if "center" in file.keys():  # noqa: SIM118  # version 0.1 knew one Gaussian
                    return None
                found = cls(
                    tuple(map(str, json.loads(file.metadata()["parts"]))),
                    **{name: file.get_tensor(name) for name in TENSORS},
                )
            found._check()
            return found
        except (SafetensorError, ValueError, KeyError, TypeError) as damage:
            raise InputError(f"{path} is damaged ({type(damage).__name__}): delete it, it is made anew") from None

    def _check(self) -> None:
        """Raises a ValueError where tensors do not fit each other: the file is another's."""
        tensors: list[Tensor] = [getattr(self, name) for name in TENSORS]
        k, d, n = max(1, len(self.log_weights)), len(self.names), max(1, self.scores.numel())
        fit = [tuple(tensor.shape) for tensor in tensors] == [(k,), (k, d), (k, d, d), (n,)]
        if not fit or any(tensor.dtype != torch.float64 for tensor in tensors):
            raise ValueError("shapes")


class _Scaled(NamedTuple):
    """Parts (n, d), of which a few far out do not hide the rest."""

    values: Tensor  # about 0, of spread 1
    center: Tensor  # (d,)
    spread: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Self:
        quartiles = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype), dim=0)
        spread = (quartiles[2] - quartiles[0]).clamp_min(1e-6 * values.std(0))
        return cls((values - quartiles[1]) / spread, quartiles[1], spread)

    def fit(
        self, components: int, chosen: slice | Tensor = slice(None), start: GaussianMixture | None = None
    ) -> GaussianMixture:
        settings = CodeMixtureSettings(components=components, covariance_floor=RIDGE)
        return fit_code_mixture(self.values[chosen], settings, 0, start=start)

    def cross_fitted(self, mixture: GaussianMixture) -> Tensor:
        """Scores (n,), each by a density beside this one that was fitted to the other nine tenths.

        Another local optimum would have scores of another law.
        """
        fold = torch.arange(len(self.values)) % FOLDS
        scores = self.values.new_empty(len(self.values))
        for k in range(FOLDS):
            other = self.fit(len(mixture.means), fold != k, mixture)
            scores[fold == k] = -other.log_prob(self.values[fold == k]) + self.spread.log().sum()
        return scores

    def in_their_units(self, mixture: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and whitenings."""
        whitening = (mixture.whitening / self.spread).contiguous()
        return mixture.log_weights, self.center + self.spread * mixture.means, whitening


def _log_joint(values: Tensor, log_weights: Tensor, centers: Tensor, whitening: Tensor) -> list[Tensor]:
    """log [ w_k N(values; m_k, S_k) ] of parts (n, d), K times (n,)."""
    joint = []  # part by part: a matrix product would round by the number of samples
    for log_weight, center, rows in zip(log_weights.tolist(), centers, whitening, strict=True):
        centred, distance = (values - center).unbind(1), values.new_zeros(len(values))
        for row in rows:
            white = values.new_zeros(len(values))
            for factor, u in zip(row.tolist(), centred, strict=True):
                white = white + factor * u
            distance = distance + white.square()
        joint.append(log_weight - 0.5 * distance - len(centred) * HALF_LOG_TWO_PI + float(rows.diagonal().log().sum()))
    return joint


def _score(values: Tensor, log_weights: Tensor, centers: Tensor, whitening: Tensor) -> Tensor:
    """-log density of parts (n, d), (n,)."""
    return -reduce(torch.logaddexp, _log_joint(values, log_weights, centers, whitening))
