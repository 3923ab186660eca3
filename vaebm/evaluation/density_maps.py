"""Density maps: log-densities of points in the plane on a grid, by quadrature.

    truth          log p(x), where it is known
    vae            integral over z of p(z) p(x | z)
    vae_mixture    the same with the code mixture in the place of p(z)
    vaebm          log h(x): with the energy

The grids are coarser than those that measure (metrics/quadrature.py), which maps do not need; `error` says by how much
log-densities may be wrong.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.evaluation.quadrature import plane_quadrature
from vaebm.evaluation.stored_draws import load_record, require, save_record
from vaebm.metrics import Measurement
from vaebm.models import NoiseSpaceModel

X_POINTS, LATENT_POINTS = 301, 301
HELD_OUT = 2_000  # points of which the likelihoods are
ENERGY = "energy"


@dataclass(frozen=True, eq=False)
class DensityMaps:
    """Log-densities (x_1, x_2) on a square grid.

    Args:
        extent: of the grid, along either axis.
        maps: by subject; empty where there are none.
        energy: E(x) + log Z, which is log p - log h; None without an energy on x.
        error: the largest error of a log-density, in nats.
        log_likelihoods: of held-out points, as far as these grids tell them.
        refusal: why there are no maps; "" where there are.
    """

    extent: tuple[float, float]
    maps: dict[str, Tensor] = field(default_factory=dict)
    energy: Tensor | None = None
    error: float = 0.0
    log_likelihoods: tuple[Measurement, ...] = ()
    refusal: str = ""

    def save(self, path: Path, model_sha256: str) -> None:
        tensors = self.maps | ({} if self.energy is None else {ENERGY: self.energy})
        about = {
            "extent": self.extent,
            "error": self.error,
            "log_likelihoods": [m.to_json() for m in self.log_likelihoods],
            "refusal": self.refusal,
        }
        save_record(path, model_sha256, {name: values.float() for name, values in tensors.items()}, about)

    @classmethod
    def load(cls, path: Path, model_sha256: str) -> "DensityMaps | None":
        """From a file; None where it is not there, damaged, or of other weights."""

        def read(tensors: dict[str, Tensor], about: dict[str, Any]) -> DensityMaps:
            low, high = TypeAdapter(tuple[float, float]).validate_python(about["extent"])
            require(-math.inf < low < high < math.inf, "extent")
            shapes = {tuple(values.shape) for values in tensors.values()}
            square = len(shapes) == 1 and all(len(shape) == 2 and shape[0] == shape[1] > 1 for shape in shapes)
            floats = all(values.dtype == torch.float32 for values in tensors.values())
            error, refusal = float(about["error"]), str(about["refusal"])
            energy = tensors.pop(ENERGY, None)
            require(bool(refusal) if not tensors else square and floats, "maps")
            likelihoods = tuple(Measurement.from_json(m) for m in about["log_likelihoods"])
            return cls((low, high), tensors, energy, error, likelihoods, refusal)

        return load_record(path, model_sha256, read)


def map_densities(model: NoiseSpaceModel, data: DataSet) -> DensityMaps:
    """All that can be mapped of a model of points."""
    extent = extent_of(data.train.all())
    grid: dict[str, Any] = {"latent_points": LATENT_POINTS, "x_range": extent, "x_points": X_POINTS}
    try:
        with model.frozen():
            full = plane_quadrature(model, with_energy=True, **grid)
            found = {
                "vae": plane_quadrature(model, with_energy=False, **grid),
                "vae_mixture": plane_quadrature(model, with_energy=False, log_prior=model.mixture.log_prob, **grid),
                model.subjects[0]: full,
            }
            found = {key: q for key, q in found.items() if key in model.subjects}
            points = data.test.all()[:HELD_OUT]
            log_likelihoods = tuple(q.log_likelihood(points).with_subject(key) for key, q in found.items())
    except InputError as reason:
        return DensityMaps(extent, refusal=str(reason))
    maps = {key: q.log_model for key, q in found.items()}
    if data.truth is not None:
        plane = torch.cartesian_prod(full.axis, full.axis)
        maps = {"truth": data.truth.log_prob(plane).reshape(len(full.axis), -1), **maps}
    tilt = full.log_vae - full.log_model if model.energy_net.reads_x else None
    return DensityMaps(extent, maps, tilt, max(q.error for q in found.values()), log_likelihoods)


def extent_of(points: Tensor) -> tuple[float, float]:
    """One range for both axes that holds all but a few thousandths of the points (n, 2), in round numbers."""
    values = points[:100_000].flatten()
    low, high = (float(q) for q in torch.quantile(values, torch.tensor([0.001, 0.999])))
    margin = 0.12 * max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(high - low + 2 * margin)) / 10.0
    return math.floor((low - margin) / step) * step, math.ceil((high + margin) / step) * step
