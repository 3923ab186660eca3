"""A score for one sample: how strange it is to a model, calibrated on data that the model was not fitted to.

    score      -log f(parts of x), f a small density                    (models/score_parts.py, models/score_density.py)
    p_value    how often data of the model's kind are at least as strange

That the data were not fitted to counts: a model explains what it was trained on better than anything else, so against
its training data everything new would be strange.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.models.draws import NoiseSpaceModel
from vaebm.models.inputs import data_tensor
from vaebm.models.score_density import ScoreDensity
from vaebm.models.score_parts import ROWS_AT_ONCE, density_gradient, score_parts
from vaebm.progress import Progress, silent


class Scores(NamedTuple):
    """Each (n,) float64 on the CPU, in the order of the samples."""

    p_value: Tensor  # in (0, 1]; small is strange
    score: Tensor  # in nats; high is strange
    parts: dict[str, Tensor]  # by name


class Explanation(NamedTuple):
    """Why samples are as strange as they are; all on the CPU, in their order."""

    shares: dict[str, Tensor]  # of the score by part, (n,) each (models/score_density.py)
    reconstruction: Tensor  # (n, *data_shape), the center of p(x | m), m the mean of q(z | x)
    gradient: Tensor  # (n, *data_shape), which values make a sample unlikely, and which way they would have to go


class ScoredModel(NoiseSpaceModel, ABC):
    """A model that scores samples.

    Attributes:
        score_density: what it is calibrated by; None until then.
        held_out: gives data that nothing was fitted to, for the first score; a run sets it.
        noise_std: of the noise that data carry where the energy looks at them.
    """

    noise_std: float
    held_out: Callable[[], Tensor] | None = None

    def score(self, x: Tensor, progress: Progress | None = None) -> Scores:
        """How strange each of x (B, *data_shape) is: p-value, score, and parts by name.

        Neither the batch nor the order of x changes a bit. A model that comes from a run is calibrated on data of the
        run, any other by `calibrate`.

        Raises:
            InputError: no x, a wrong shape, type or range, or there is nothing to calibrate the model on.
        """
        x = self._samples(x)
        if self.score_density is None:
            if self.held_out is None:
                raise InputError(
                    "this model is not calibrated: load it from its run, or call model.calibrate(x) with data that it"
                    " was not fitted to"
                )
            self.calibrate(self.held_out(), progress)
        assert self.score_density is not None
        parts = self._parts(x, progress)
        score = self.score_density.score(parts)
        return Scores(self.score_density.p_value(score), score, parts)

    def calibrate(self, x: Tensor, progress: Progress | None = None) -> None:
        """Fits the density of scores to x (n, *data_shape), data that the model was not fitted to.

        Raises:
            InputError: a wrong shape, type or range, or too few of them.
        """
        self.score_density = ScoreDensity.fit(self._parts(self._samples(x), progress))

    @torch.no_grad()
    def explain(self, x: Tensor) -> Explanation:
        """Which parts, and which values of x (B, *data_shape), make the score of each.

        Raises:
            InputError: as `score`, or the model is not calibrated yet: `score` does that.
        """
        x = self._samples(x)
        if self.score_density is None:
            raise InputError("this model is not calibrated: call model.score(x) or model.calibrate(x) first")
        with self.frozen():
            batches = x.split(ROWS_AT_ONCE)
            centers = [self.vae.decode(self.encode(rows.to(self.device, self.dtype))).center.cpu() for rows in batches]
        gradient = density_gradient(self, x, self.noise_std)
        return Explanation(self.score_density.shares(self._parts(x, None)), torch.cat(centers), gradient)

    def part_names(self) -> list[str]:
        """Names of the parts of a score."""
        x = torch.zeros(1, *self.data_shape)
        return list(score_parts(self, x, self.noise_std))

    def _samples(self, x: object) -> Tensor:
        data = data_tensor(x, self.data_shape, next(self.parameters()), self.noise_std)
        if not len(data):
            raise InputError("x is empty: pass at least one sample")
        return data

    def _parts(self, x: Tensor, progress: Progress | None) -> dict[str, Tensor]:
        with (progress or silent()).task(f"parts of {len(x):,} scores", len(x), "samples") as task:
            return score_parts(self, x, self.noise_std, task.advance)
