"""A comparison of samplers, on disk.

    samplers.json          a row a sampler, with advice on the recommended one
    samples/SAMPLER.npz    what each drew: `images` or `points`
    reference.json         mode probabilities of a model in the plane, which take long to compute
    samplers.html          the page (see `report.sampler_page`)

Rows are kept if their protocol is the same: model, gradients, number of samples, the recipe's sampler and start, seed,
device and version. Others are replaced.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vaebm.comparison.candidate import Candidate, SamplerRun
from vaebm.comparison.scorer import ModeProbabilities
from vaebm.data import DataSet, modality_of
from vaebm.errors import InputError
from vaebm.experiment.run_directory import RECIPE
from vaebm.files import write_atomically, write_npz
from vaebm.metrics.measurement import Measurement
from vaebm.models import NoiseSpaceModel
from vaebm.progress import Progress

ROWS, REFERENCE, SAMPLES = "samplers.json", "reference.json", "samples"


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison found; `key` names the measurement that ranks.

    Rows are as `samplers.json` holds them; `start` has the measurements of the base, where chains begin; `references`
    has those that samples are to be compared with, by subject; `protocol` is what was the same for all.
    """

    folder: Path
    rows: list[dict[str, Any]]
    key: str
    start: list[Measurement]
    references: dict[str, list[Measurement]]
    mode_probabilities: ModeProbabilities | None
    protocol: dict[str, Any]

    def samples(self, sampler: str) -> np.ndarray:
        """What a sampler, or `start` or `held_out`, drew: images (n, h, w, c) uint8 or points (n, 2)."""
        with np.load(self.folder / SAMPLES / f"{sampler}.npz", allow_pickle=False) as file:
            values: np.ndarray = file[file.files[0]]
        return values


class ComparisonFolder:
    """The folder of a comparison, made where it is not there; a run itself, or a file, is refused."""

    def __init__(self, folder: Path, protocol: dict[str, Any]) -> None:
        if folder.is_file():
            raise InputError(f"{folder} is a file: give the name of a folder")
        if (folder / RECIPE).exists():
            raise InputError(f"{folder} is a run: give a folder of its own, such as {folder / 'samplers'}")
        (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
        self.folder, self.protocol = folder, protocol

    def rows(self, progress: Progress) -> list[dict[str, Any]]:
        """Those that are finished."""
        path = self.folder / ROWS
        if not path.exists():
            return []
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            kept = [row for row in rows if row["settings"]["protocol"] == self.protocol]
            kept = [row for row in kept if self._samples(row["sampler"]).exists()]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged: delete it and compare again") from None
        if len(kept) < len(rows):
            progress.say(f"{path} holds {len(rows) - len(kept)} samplers of another comparison: they are replaced.")
        return kept

    def save_rows(self, rows: Sequence[dict[str, Any]]) -> None:
        write_atomically(self.folder / ROWS, json.dumps(rows, indent=1, allow_nan=False).encode())

    def save_samples(self, name: str, x: Tensor) -> None:
        """Writes samples x (n, *data_shape), in the model's range."""
        write_npz(self._samples(name), modality_of(x.shape[1:]).arrays(x))

    def mode_probabilities(self, model: NoiseSpaceModel, data: DataSet, progress: Progress) -> ModeProbabilities:
        """Of the model, computed once."""
        path, sha = self.folder / REFERENCE, self.protocol["model_sha256"]
        if path.exists():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["model_sha256"] == sha:
                    return ModeProbabilities(**stored["mode_probabilities"])
            except (ValueError, KeyError, TypeError):
                pass  # of another version, or cut short: computed again
        with progress.task("quadrature", 1, "densities"):
            found = ModeProbabilities.find(model, data)
        content = {"model_sha256": sha, "mode_probabilities": asdict(found)}
        write_atomically(path, json.dumps(content, indent=1).encode())
        return found

    def _samples(self, name: str) -> Path:
        return self.folder / SAMPLES / f"{name}.npz"


def row_of(
    candidate: Candidate, found: SamplerRun, curve: list[dict[str, Any]], n: int, protocol: dict[str, Any]
) -> dict[str, Any]:
    """A sampler's row; null stands for what is not known, such as R-hat after very few steps."""
    gradients, mixing = found.samples[-1][0], found.mixing
    ess_per_gradient = mixing and _known(mixing.ess_per_gradient)
    row: dict[str, Any] = {
        "sampler": candidate.name,
        "label": candidate.label,
        "gradients": gradients,
        "acceptance": _known(found.acceptance),
        "moved": found.moved,
        "ess_per_gradient": ess_per_gradient,
        "ess_per_second": ess_per_gradient and ess_per_gradient * gradients * n / found.seconds,
        "rhat": mixing and _known(mixing.rhat),
        "rhat_between_starts": mixing and _known(mixing.rhat_between_starts),
        "slowest": mixing and mixing.slowest,
        "quality": curve[-1]["quality"],
        "quality_stderr": curve[-1]["quality_stderr"],
        "curve": curve,
        "n": n,
        "seconds": found.seconds,
        "settings": {**found.settings, "overrides": found.overrides, "protocol": protocol},
    }
    if found.log_z is not None:
        row["log_z"] = found.log_z._asdict()
    return row


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
