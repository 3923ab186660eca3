r"""Judge: how good samples of one model are, by the same measure for every sampler.

Images: Frechet and kernel distance to the training images on the recipe's first features, as `vaebm evaluate` has
them; the Frechet distance is the mean over draws of as many samples as it uses, with the error that the draws' own
give. It ranks. Beside it stands how far the mean of E_x is from that of the model, where weighted proposals of the
model without E_x tell that: it shows a bias that a distance between so few images does not.

Points: modes, and how far the samples' shares are from the model's own masses, by quadrature (where that is not
feasible: from those of the density behind the data):

    mode_chi_square   sum_k (O_k - n p_k)^2 / (n p_k), O_k of the n samples and p_k of the mass nearest to mode k; its
                      p-value is beside it
    model_kl          sum_j s_j log(s_j / m_j) in nats, shares s and masses m, over 3 sigma about each mode and, as one
                      cell, all the rest; samples of the model itself give about (cells - 1) / 2n. It ranks

The p-value takes samples to be independent: copies of a sample make it too small.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.evaluation import Evaluation
from vaebm.evaluation.feature_space import AnyClassifier
from vaebm.evaluation.quadrature import plane_quadrature
from vaebm.metrics.measurement import Measurement
from vaebm.models import NoiseSpaceModel


class Judge(ABC):
    """Measures samples x (n, *data_shape), in the model's range, on the CPU.

    Attributes:
        key: the measurement that ranks; lower is better.
    """

    key: str

    @abstractmethod
    def measure(self, x: Tensor) -> list[Measurement]:
        """All measurements."""

    @abstractmethod
    def features(self, x: Tensor) -> dict[str, Tensor]:
        """What is watched of each sample, (n,) by name."""

    @abstractmethod
    def references(self, x: Tensor) -> dict[str, list[Measurement]]:
        """The same measurements of what the samples are to be compared with, by subject; x are held-out data."""


class ImageJudge(Judge):
    """Distances on the first of the recipe's feature spaces."""

    key = "frechet_distance"

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation, self.space = evaluation, evaluation.spaces[0]
        self.size = self.space.n

    @cached_property
    def classifier(self) -> AnyClassifier:
        """The recipe's own."""
        return self.evaluation.classifier()

    def measure(self, x: Tensor) -> list[Measurement]:
        rows, reference = self.space.rows(x), self.space.reference
        draws = [draw for draw in rows.split(self.size) if len(draw) == self.size] or [rows]
        found = [metrics.frechet_distance(draw, reference) for draw in draws]
        stderr = math.hypot(*(m.stderr for m in found)) / len(found)
        frechet = Measurement(
            self.key, sum(m.value for m in found) / len(found), stderr, len(draws[0]), {"draws": len(draws)}
        )
        kernel = metrics.kernel_distance(rows, reference)
        return [m.with_settings(**self.space.features.settings) for m in (frechet, kernel)]

    def features(self, x: Tensor) -> dict[str, Tensor]:
        if not any(space.name == "classifier" for space in self.evaluation.spaces):
            return {}
        return {"class": self.classifier.predict(x)}

    def references(self, x: Tensor) -> dict[str, list[Measurement]]:
        return {"held_out": self.measure(x)}


@dataclass(frozen=True)
class Masses:
    """What the samples' shares are compared with.

    Attributes:
        of: "model", or "truth" where the model's own are not feasible.
        modes: (K,), the mass nearest to each.
        cells: (K + 1,), the mass within 3 sigma of each, and the rest.
        log_z: of the model, None where it is not known; `log_z_error` is the quadrature's.
    """

    of: str
    modes: Sequence[float]
    cells: Sequence[float]
    log_z: float | None = None
    log_z_error: float | None = None

    @classmethod
    def find(cls, model: NoiseSpaceModel, data: DataSet) -> Masses:
        """By quadrature, or of the truth."""
        assert data.truth is not None
        centres, std = data.truth.modes, data.truth.scale
        if model.device.type != "cpu":  # quadrature asks in float32 on the CPU
            model = deepcopy(model).cpu()
        try:
            density = plane_quadrature(model, with_energy=True)
        except InputError:
            share = 1 / len(centres)
            inside = -math.expm1(-4.5)  # of a round Gaussian in the plane
            return cls("truth", [share] * len(centres), [share * inside] * len(centres) + [1 - inside])
        cell = 2 * math.log(float(density.axis[1] - density.axis[0]))
        mass = (density.log_model + cell).exp().flatten()
        points = torch.cartesian_prod(density.axis, density.axis)
        cells = torch.zeros(len(centres) + 1, dtype=torch.float64)
        for some, weight in zip(points.split(65536), mass.split(65536), strict=True):
            cells.index_add_(0, _cell(some, centres.double(), std), weight)
        modes = density.mode_masses(centres)
        return cls(
            "model", (modes / modes.sum()).tolist(), (cells / cells.sum()).tolist(), density.log_z, density.error
        )

    def to_json(self) -> dict[str, Any]:
        """As a plain object."""
        return asdict(self)


class PointJudge(Judge):
    """Modes, and the shares of the model's own masses."""

    key = "model_kl"

    def __init__(self, data: DataSet, masses: Masses) -> None:
        assert data.truth is not None
        self.centres, self.std, self.masses = data.truth.modes, data.truth.scale, masses

    def measure(self, x: Tensor) -> list[Measurement]:
        found = list(metrics.mode_measurements(x, self.centres, self.std).values())
        return [*found, *self._chi_square(x), self._model_kl(x)]

    def _chi_square(self, x: Tensor) -> list[Measurement]:
        from scipy.stats import chi2

        nearest = torch.cdist(x.double(), self.centres.double()).argmin(dim=1)
        expected = len(x) * torch.tensor(self.masses.modes, dtype=torch.float64)
        observed = torch.bincount(nearest, minlength=len(expected))
        value = float(((observed - expected).square() / expected).sum())
        freedom = len(expected) - 1
        settings = {"against": self.masses.of, "degrees_of_freedom": freedom}
        p_value = float(chi2.sf(value, freedom))
        return [
            Measurement("mode_chi_square", value, math.sqrt(2 * freedom), len(x), settings),
            Measurement("mode_chi_square_p", p_value, 0.0, len(x), settings),
        ]

    def _model_kl(self, x: Tensor) -> Measurement:
        cell = _cell(x.double(), self.centres.double(), self.std)
        masses = torch.tensor(self.masses.cells, dtype=torch.float64).clamp(min=1e-12)
        shares = torch.bincount(cell, minlength=len(masses)).double() / len(x)
        log_ratio = (shares / masses)[cell].log()
        least = math.sqrt((len(masses) - 1) / 2) / len(
            x
        )  # of samples of the model itself, where the delta method gives 0
        stderr = math.hypot(float(log_ratio.std()) / math.sqrt(len(x)), least)
        return Measurement(self.key, float(log_ratio.mean()), stderr, len(x), {"against": self.masses.of})

    def features(self, x: Tensor) -> dict[str, Tensor]:
        return {f"point[{k}]": x[:, k] for k in range(x.shape[1])}

    def references(self, x: Tensor) -> dict[str, list[Measurement]]:
        inside = 1 - self.masses.cells[-1]
        name = "vaebm" if self.masses.of == "model" else "truth"
        exact = Measurement("within_three_sigma", inside, 0.0, len(x), {"method": "quadrature"})
        return {name: [exact], "held_out": self.measure(x)}


def _cell(x: Tensor, centres: Tensor, std: float) -> Tensor:
    """The mode within 3 std of which a point (n, dim) lies, else K."""
    distance, nearest = torch.cdist(x, centres).min(dim=1)
    return torch.where(distance <= 3 * std, nearest, len(centres))
