"""Illustrations: what a report shows of a run's model beside its measurements, made once and stored.

    RUN/samples/draws/SUBJECT.safetensors      samples that were measured; a few of their own where nothing was
    RUN/samples/records/chains.safetensors     chains at chosen steps (evaluation/chain_record.py)
    RUN/samples/records/densities.safetensors  densities of points in the plane (evaluation/density_maps.py)

They are valid for the weights that they were made with.
"""

import math
from dataclasses import dataclass

from torch import nn

from vaebm.data import DataSet
from vaebm.evaluation import Evaluation, StoredDraws, all_quantities, is_shown
from vaebm.evaluation.chain_record import ChainRecord, record_chains
from vaebm.evaluation.density_maps import DensityMaps, map_densities
from vaebm.experiment.evaluate import evaluation_of, stored_draws
from vaebm.experiment.run_directory import Run
from vaebm.models import Model, NoiseSpaceModel
from vaebm.progress import Progress, silent
from vaebm.training.engine import threads

FEW_POINTS, MIN_IMAGES, MAX_IMAGES = 2_000, 48, 512  # drawn for pictures alone
MAX_VALUES = 300_000  # of these images together, between the limits


@dataclass(frozen=True)
class ModelFacts:
    """What a page says of the nets."""

    sizes: dict[str, int]  # weights by part: "VAE", and "E(x)", "E(z)", ... for the terms of the energy.
    latent_dim: int | None  # of the codes; None without codes
    components: int | None  # of the mixture fitted to the codes
    refused: dict[str, str]  # why samples could not be drawn, by subject
    inapplicable: list[str]  # names of measurements of the model itself that do not apply to it or to its data


@dataclass(frozen=True, eq=False)
class Illustrations:
    """Of one run; `chains` and `densities` are None where the model or its data have none."""

    draws: StoredDraws
    model: ModelFacts
    chains: ChainRecord | None
    densities: DensityMaps | None


def illustrate(run: Run, *, device: str | None = None, progress: Progress | None = None) -> Illustrations:
    """Makes what is missing, and gives all of it.

    Raises:
        InputError: the run has no model yet.
    """
    with run.locked(), threads(run.recipe.threads):
        return _illustrate(run, run.model(device), progress or silent())


def _illustrate(run: Run, model: Model, progress: Progress) -> Illustrations:
    data = run.data()
    draws = stored_draws(run, data.shape)
    evaluation = evaluation_of(run, run.recipe, data, model, None, progress)
    refused = _draw_missing(data, model, draws, evaluation)
    chains = densities = None
    if isinstance(model, NoiseSpaceModel):
        path = run.path / "samples" / "records" / "chains.safetensors"
        if (chains := ChainRecord.load(path, data.shape, draws.model_sha256)) is None:
            chains = record_chains(model, progress)
            chains.save(path, draws.model_sha256)
        path = path.with_name("densities.safetensors")
        mapped = not data.modality.pictured and data.columns is None
        if mapped and (densities := DensityMaps.load(path, draws.model_sha256)) is None:
            densities = map_densities(model, data)
            densities.save(path, draws.model_sha256)
    measurable = {w.name for subject in model.subjects for w in evaluation.wanted(subject)}
    inapplicable = [name for name in all_quantities() if not is_shown(name) and name not in measurable]
    return Illustrations(draws, _facts(model, refused, inapplicable), chains, densities)


def _draw_missing(data: DataSet, model: Model, draws: StoredDraws, evaluation: Evaluation) -> dict[str, str]:
    """Draws a few samples of subjects that were not measured; gives by subject why that could not be done."""
    few = FEW_POINTS
    if data.modality.pictured:
        few = max(MIN_IMAGES, min(MAX_IMAGES, MAX_VALUES // math.prod(data.shape)))
    refused = {}
    for subject in evaluation.subjects:
        if draws.load(subject, model.show_of(subject), 1) is None:
            try:
                evaluation.samples(subject, few=few)
            except ValueError as reason:  # not finite: the report says so and shows the rest
                refused[subject] = str(reason)
    return refused


def _facts(model: Model, refused: dict[str, str], inapplicable: list[str]) -> ModelFacts:
    if not isinstance(model, NoiseSpaceModel):
        return ModelFacts({"model": _weights(model)}, None, None, refused, inapplicable)
    sizes = {"VAE": _weights(model.vae)} if model.vae.latent_dim else {}
    for term in model.energy_net.terms.values():
        reads = ", ".join(name for name, read in (("x", term.reads_x), ("z", term.reads_z)) if read)
        sizes[f"E({reads})"] = _weights(term)
    return ModelFacts(sizes, model.vae.latent_dim, model.mixture.means.shape[0], refused, inapplicable)


def _weights(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
