r"""Scorer: how good samples of one model are, by the same measure for every sampler.

Images: Fréchet and kernel distance to the training images in the recipe's first feature space, as `vaebm evaluate` has
them; the Fréchet distance is the mean over draws of as many samples as it uses, with the error that the draws' own
give. It ranks. Beside it stands `energy_shift`, how far the mean of the energy over the base is from that of the model,
where weighted draws of the base tell it: it shows a bias that a distance between so few images does not.

Points: modes, and how far the samples' fractions are from the model's own mode probabilities, by quadrature (where that
is not feasible: from those of the density behind the data):

    mode_chi_square   sum_k (O_k - n p_k)^2 / (n p_k), O_k of the n samples and p_k the probability to be nearest to
                      mode k; its p-value is beside it
    model_kl          sum_j s_j log(s_j / q_j) in nats, fractions s and probabilities q of the cells: within 3 sigma of
                      each mode and, as one cell, all the rest; for samples of the model about (cells - 1) / 2n. Ranks

The p-value takes samples to be independent: copies of a sample make it too small.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet, ModesTruth
from vaebm.errors import InputError
from vaebm.evaluation import Evaluation
from vaebm.evaluation.feature_space import AnyClassifier
from vaebm.evaluation.quadrature import plane_quadrature
from vaebm.metrics.arrays import nearest
from vaebm.metrics.measurement import Measurement
from vaebm.models import CHAINS_AT_ONCE, NoiseSpaceModel
from vaebm.sampling.resampling import effective_sample_size

MIN_EFFECTIVE = 100  # weighted draws, for a mean energy
DRAWS_PER_SAMPLE = 20  # of the base, for the mean energy of the model


class Scorer(ABC):
    """Measures samples.

    Attributes:
        key: the measurement that ranks; lower is better.
        key_label: what sentences call it.
    """

    key: str
    key_label: str

    @abstractmethod
    def measure(self, x: Tensor, eps: Tensor | None = None) -> list[Measurement]:
        """All measurements of samples x (n, *data_shape) in the model's range, on the CPU, at positions (n, dim)."""

    @abstractmethod
    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Test functions of each sample, (n,) by name."""

    @abstractmethod
    def references(self, x: Tensor) -> dict[str, list[Measurement]]:
        """The same measurements of what the samples are to be compared with, by subject; x are held-out data."""


class ImageScorer(Scorer):
    """Distances in the first of the recipe's feature spaces, and the mean energy, of n samples of each sampler."""

    key, key_label = "frechet_distance", "Fréchet distance"

    def __init__(self, evaluation: Evaluation, model: NoiseSpaceModel, n: int, generator: torch.Generator) -> None:
        self.evaluation, self.model, self.space = evaluation, model, evaluation.spaces[0]
        self.mean_energy = mean_energy(model, DRAWS_PER_SAMPLE * n, generator)

    @cached_property
    def classifier(self) -> AnyClassifier:
        """The recipe's own."""
        return self.evaluation.classifier()

    def measure(self, x: Tensor, eps: Tensor | None = None) -> list[Measurement]:
        rows, reference = self.space.rows(x), self.space.reference
        draws = [draw for draw in rows.split(self.space.n) if len(draw) == self.space.n] or [rows]
        distances = [metrics.frechet_distance(draw, reference) for draw in draws]
        value = sum(m.value for m in distances) / len(draws)
        stderr = math.hypot(*(m.stderr for m in distances)) / len(draws)
        frechet = Measurement(self.key, value, stderr, len(draws[0]), {"draws": len(draws)})
        kernel = metrics.kernel_distance(rows, reference)
        found = [m.with_settings(**self.space.features.settings) for m in (frechet, kernel)]
        if eps is not None and self.mean_energy is not None:
            energies, (mean, of_mean) = -self.model.log_weights(eps).double(), self.mean_energy
            stderr = math.hypot(float(energies.std()) / math.sqrt(len(eps)), of_mean)
            found.append(Measurement("energy_shift", float(energies.mean()) - mean, stderr, len(eps)))
        return found

    def features(self, x: Tensor) -> dict[str, Tensor]:
        if not any(space.name == "classifier" for space in self.evaluation.spaces):
            return {}
        return {"class": self.classifier.predict(x)}

    def references(self, x: Tensor) -> dict[str, list[Measurement]]:
        return {"held_out": self.measure(x)}


def mean_energy(model: NoiseSpaceModel, draws: int, generator: torch.Generator) -> tuple[float, float] | None:
    """Mean over the model of its energy over the base, in nats, and its standard error, by weighted draws of the base.

    None where the energy is the base's alone, or too few of the draws count.
    """
    if not model.corrects:
        return None
    batches = range(math.ceil(draws / CHAINS_AT_ONCE))
    log_weights = torch.cat([model.log_weights(model.sample_base(CHAINS_AT_ONCE, generator)) for _ in batches]).double()
    if float(effective_sample_size(log_weights)) < MIN_EFFECTIVE:
        return None
    weights = log_weights.softmax(dim=0)
    mean = -(weights * log_weights).sum()
    return float(mean), float((weights * (log_weights + mean)).square().sum().sqrt())


@dataclass(frozen=True)
class ModeProbabilities:
    """What the samples' fractions of the modes are compared with.

    Attributes:
        of: "model", or "truth" where the model's own are not feasible.
        modes: (K,), the probability to be nearest to each.
        cells: (K + 1,), the probability to be within 3 sigma of each, and the rest.
        log_z: of the model, None where it is not known; `log_z_error` is the quadrature's.
    """

    of: str
    modes: Sequence[float]
    cells: Sequence[float]
    log_z: float | None = None
    log_z_error: float | None = None

    @classmethod
    def find(cls, model: NoiseSpaceModel, data: DataSet) -> "ModeProbabilities":
        """By quadrature, or of the truth; data whose density is not known are refused."""
        if not isinstance(data.truth, ModesTruth):
            raise InputError(
                f"samplers of points are compared by the modes of a known density, which {data.name} does not have:"
                " compare them on images, or on data.kind=gaussians"
            )
        centres, std = data.truth.modes, data.truth.scale
        if model.device.type != "cpu":  # quadrature asks in float32 on the CPU
            model = deepcopy(model).cpu()
        try:
            density = plane_quadrature(model, with_energy=True)
        except InputError:
            fraction = 1 / len(centres)
            inside = -math.expm1(-4.5)  # of a round Gaussian in the plane
            return cls("truth", [fraction] * len(centres), [fraction * inside] * len(centres) + [1 - inside])
        log_cell_area = 2 * math.log(float(density.axis[1] - density.axis[0]))
        probability = (density.log_model + log_cell_area).exp().flatten()
        points = torch.cartesian_prod(density.axis, density.axis)
        cells = torch.zeros(len(centres) + 1, dtype=torch.float64)
        for some, weight in zip(points.split(65536), probability.split(65536), strict=True):
            cells.index_add_(0, _cell(some, centres.double(), std), weight)
        modes = density.mode_probabilities(centres)
        return cls(
            "model", (modes / modes.sum()).tolist(), (cells / cells.sum()).tolist(), density.log_z, density.error
        )


class PointScorer(Scorer):
    """Modes of data whose density is known, and their fractions against the probabilities."""

    key = "model_kl"

    def __init__(self, data: DataSet, probabilities: ModeProbabilities) -> None:
        assert isinstance(data.truth, ModesTruth)
        self.centres, self.std, self.probabilities = data.truth.modes, data.truth.scale, probabilities
        whose = "the data's" if probabilities.of == "truth" else "the model's own"
        self.key_label = f"KL divergence from {whose} mode probabilities"

    def measure(self, x: Tensor, eps: Tensor | None = None) -> list[Measurement]:
        found = list(metrics.mode_measurements(x, self.centres, self.std).values())
        return [*found, *self._chi_square(x), self._model_kl(x)]

    def _chi_square(self, x: Tensor) -> list[Measurement]:
        from scipy.stats import chi2

        mode = nearest(x, self.centres)[1]
        expected = len(x) * torch.tensor(self.probabilities.modes, dtype=torch.float64)
        observed = torch.bincount(mode, minlength=len(expected))
        value = float(((observed - expected).square() / expected).sum())
        freedom = len(expected) - 1
        settings = {"against": self.probabilities.of, "degrees_of_freedom": freedom}
        p_value = float(chi2.sf(value, freedom))
        return [
            Measurement("mode_chi_square", value, math.sqrt(2 * freedom), len(x), settings),
            Measurement("mode_chi_square_p", p_value, 0.0, len(x), settings),
        ]

    def _model_kl(self, x: Tensor) -> Measurement:
        cell = _cell(x.double(), self.centres.double(), self.std)
        probabilities = torch.tensor(self.probabilities.cells, dtype=torch.float64).clamp(min=1e-12)
        fractions = torch.bincount(cell, minlength=len(probabilities)).double() / len(x)
        log_ratio = (fractions / probabilities)[cell].log()
        # For samples of the model the delta method gives 0, and the divergence is chi-square distributed.
        least = math.sqrt((len(probabilities) - 1) / 2) / len(x)
        stderr = math.hypot(float(log_ratio.std()) / math.sqrt(len(x)), least)
        return Measurement(self.key, float(log_ratio.mean()), stderr, len(x), {"against": self.probabilities.of})

    def features(self, x: Tensor) -> dict[str, Tensor]:
        return {f"point[{k}]": x[:, k] for k in range(x.shape[1])}

    def references(self, x: Tensor) -> dict[str, list[Measurement]]:
        inside = 1 - self.probabilities.cells[-1]
        name = "vaebm" if self.probabilities.of == "model" else "truth"
        exact = Measurement("within_three_sigma", inside, 0.0, len(x), {"method": "quadrature"})
        return {name: [exact], "held_out": self.measure(x)}


def _cell(x: Tensor, centres: Tensor, std: float) -> Tensor:
    """The mode within 3 std of which a point (n, dim) lies, else K."""
    distance, mode = nearest(x, centres)
    return torch.where(distance <= 3 * std, mode, len(centres))
