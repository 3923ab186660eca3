"""Every estimator makes its model better, by the likelihood of held-out points under it."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.energy import FlowEnergy, MixtureEnergy, TotalEnergy
from vaebm.experiment.recipe import Recipe, load_recipe
from vaebm.experiment.train import build_model
from vaebm.models import VAEBM
from vaebm.progress import silent
from vaebm.sampling.settings import SamplerSettings
from vaebm.training.engine import Engine
from vaebm.training.estimators import Estimator, contrastive_divergence, ratio_rounds
from vaebm.training.estimators.negatives import moved
from vaebm.training.estimators.ratio_rounds import RatioRounds
from vaebm.training.stage import Stage, Training
from vaebm.vae import elbo

# Four modes, and a VAE that has learned one Gaussian about them all: there is much for an energy on x to put right.
RECIPE = """\
data: {kind: gaussians, side: 2, spacing: 3.0, std: 0.6, train_size: 4000, test_size: 1000}
vae: {kind: mlp, latent_dim: 2, hidden: [16], likelihood: {kind: gaussian}}
code_mixture: {components: 1, codes: 500}
energy: {image: {kind: mlp, hidden: [32, 32]}, latent: {kind: correction, hidden: [32]}}
sampler: {kind: langevin, step_size: 0.1, steps: 20}
vae_stage:
  iterations: 150
  batch_size: 64
  learning_rate: 1.0e-2
  warmup_iterations: 10
  kl_warmup_iterations: 50
  ema_decay: 0.9
energy_stage:
  batch_size: 256
  learning_rate: 1.0e-2
  latent: {iterations: 200, learning_rate: 3.0e-2}
  phases:
    ratio: {kind: density_ratio, iterations: 100}
    importance: {kind: importance, iterations: 100}
    divergence: {kind: contrastive_divergence, iterations: 60}
    persistent: {kind: contrastive_divergence, iterations: 60, buffer: 512, replay_ramp_iterations: 20}
    rounds: {kind: ratio_rounds, rounds: 4, iterations_per_round: 40, chains: 512, restart_steps: 40}
threads: 1
"""


def training(model: VAEBM, recipe: Recipe, data: DataSet, engine: Engine) -> Training:
    return Training(model, data.train, engine, silent(), recipe.seed)


def stage_of(name: str, work: Training, recipe: Recipe) -> Stage:
    return next(stage for stage in recipe.training_settings().stages(work) if stage.name == name)


def run(stage: Stage) -> list[dict[str, float]]:
    stage.begin()
    figures = [stage.step(iteration) for iteration in range(stage.iterations)]
    stage.end()
    return figures


@torch.no_grad()
def gained(model: VAEBM, data: DataSet) -> tuple[float, float]:
    """Nats a held-out point that E_x adds to the VAE, -mean E(x) - log Z, and log Z, from 20,000 samples of the VAE."""
    generator = torch.Generator().manual_seed(7)
    energy, n = model.energy_net.terms["image"], 20_000
    log_z = float(
        torch.logsumexp(-energy(model.decode(model.noise.standard(n, generator, next(model.parameters())))), 0)
    ) - math.log(n)
    return -float(energy(data.test.all()).mean()) - log_z, log_z


class Trained(NamedTuple):
    """A model whose VAE is trained, with what it was before and the figures of its stage."""

    recipe: Recipe
    data: DataSet
    before: VAEBM
    model: VAEBM
    figures: list[dict[str, float]]


def trained_vae(folder: Path, *overrides: str) -> Trained:
    (folder / "recipe.yaml").write_text(RECIPE)
    recipe = load_recipe(folder / "recipe.yaml", overrides)
    data = recipe.data.load()
    model = build_model(recipe, data, torch.device("cpu"))
    before = copy.deepcopy(model)
    figures = run(stage_of("vae", training(model, recipe, data, Engine("cpu", 0, None, folder)), recipe))
    return Trained(recipe, data, before, model, figures)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_vae(tmp_path_factory.mktemp("collapsed"))


@pytest.fixture(scope="module")
def coding(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A VAE whose codes tell the modes apart."""
    return trained_vae(tmp_path_factory.mktemp("coding"), "vae_stage.objective.kl_weight=0.1")


# Nats a point of a Gaussian about all four modes, the best that a VAE does that never uses its codes; and of the truth.
ONE_GAUSSIAN = -math.log(2 * math.pi * math.e * (1.5**2 + 0.6**2))
TRUTH = -math.log(4) - math.log(2 * math.pi * math.e * 0.6**2)


def test_the_vae_stage_raises_the_bound_of_held_out_points(trained: Trained) -> None:
    _, data, before, model, figures = trained

    def bound(of: VAEBM) -> float:
        return float(elbo(of.vae, data.test.all(), torch.Generator().manual_seed(0)).value.mean().detach())

    assert bound(before) < ONE_GAUSSIAN - 1.0
    assert ONE_GAUSSIAN - 0.1 < bound(model) < TRUTH
    assert [row["kl_weight"] for row in figures[:50:10]] == pytest.approx([0.02, 0.22, 0.42, 0.62, 0.82])
    last = figures[-1]
    assert last["kl_weight"] == 1.0
    assert last["elbo"] == pytest.approx(last["log_likelihood"] - last["kl_z"], abs=1e-4)
    assert last["loss"] == pytest.approx(-last["elbo"] / 2, abs=1e-4)


def test_the_vae_stage_fits_the_mixture(coding: Trained) -> None:
    """One component, from 500 codes: their mean and covariance, within four standard errors of them and of 1000."""
    _, data, _, model, _ = coding
    with torch.no_grad():
        codes = model.vae.infer(data.test.all(), torch.Generator().manual_seed(0)).z
    covariance, (factor,) = torch.cov(codes.T), model.mixture.factors
    error = (covariance.diag() * (1 / 500 + 1 / 1000)).sqrt()
    assert ((model.mixture.means[0] - codes.mean(0)) / error).abs().max() < 4
    ratio = torch.linalg.solve(covariance, factor @ factor.mT)
    assert (torch.linalg.eigvals(ratio).real - 1).abs().max() < 4 * (2 / 500 + 2 / 1000) ** 0.5
    base = model.energy_net.base
    assert base is not None
    for name, value in model.mixture.state_dict().items():
        assert torch.equal(value, base.mixture.state_dict()[name])


def test_the_latent_stage_improves_the_log_ratio_of_held_out_codes(coding: Trained, tmp_path: Path) -> None:
    recipe, data, _, model, _ = coding
    model = copy.deepcopy(model)
    figures = run(stage_of("latent_energy", training(model, recipe, data, Engine("cpu", 0, None, tmp_path)), recipe))
    assert sum(row["ratio_excess"] for row in figures[-20:]) / 20 < -0.15
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        codes = model.vae.infer(data.test.all(), generator).z
        energy = model.energy_net.base
        assert isinstance(energy, MixtureEnergy)
        log_z = torch.logsumexp(-energy.net(energy.mixture.sample(4000, generator)), 0) - torch.tensor(4000.0).log()
        gain = -energy.net(codes) - log_z
    assert float(gain.mean()) - 4 * float(gain.std()) / len(gain) ** 0.5 > 0.2


def test_a_flow_parts_the_clusters_that_its_mixture_joins(coding: Trained, tmp_path: Path) -> None:
    """The mixture is one Gaussian about four clusters of codes."""
    flow = ["energy.latent={kind: flow, width: 32, blocks: 2}", "energy_stage.latent.learning_rate=1e-2"]
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    recipe, data = load_recipe(tmp_path / "recipe.yaml", [*flow, "energy_stage.latent.iterations=400"]), coding.data
    model = build_model(recipe, data, torch.device("cpu"))
    model.vae.load_state_dict(coding.model.vae.state_dict())
    model.set_mixture(coding.model.mixture)
    run(stage_of("latent_energy", training(model, recipe, data, Engine("cpu", 0, None, tmp_path)), recipe))
    energy, generator = model.energy_net.base, torch.Generator().manual_seed(0)
    assert isinstance(energy, FlowEnergy)
    with torch.no_grad():
        codes = model.vae.infer(data.test.all(), generator).z
        gain = energy.log_prob(codes) - energy.mixture.log_prob(codes)
        of_flow, of_mixture = energy.sample(4000, generator), energy.mixture.sample(4000, generator)
    assert float(gain.mean()) > 0.1 + 5 * float(gain.std()) / len(gain) ** 0.5

    def between(z: Tensor) -> float:
        return float(((z - codes.mean(0)) / codes.std(0)).norm(dim=1).lt(0.5).float().mean())

    assert between(of_mixture) > between(codes) + 0.05
    assert between(of_flow) - between(codes) < 0.3 * (between(of_mixture) - between(codes))


GAINS = {"ratio": 0.33, "importance": 0.4, "divergence": 0.18, "persistent": 0.18, "rounds": 0.45}
"""Least nats that each brings in its few steps; the truth has 0.6 more than the VAE."""


@pytest.mark.parametrize("name", GAINS)
def test_every_estimator_raises_the_likelihood(name: str, trained: Trained, tmp_path: Path) -> None:
    recipe, data, _, model, _ = trained
    model = copy.deepcopy(model)
    model.energy_net = TotalEnergy({"image": model.energy_net.terms["image"]})  # the paper's model: E_x alone
    vae = {key: value.clone() for key, value in model.vae.state_dict().items()}
    assert gained(model, data) == pytest.approx((0.0, 0.0), abs=1e-5)  # E_x begins at 0
    stage = stage_of(name, training(model, recipe, data, Engine("cpu", 0, None, tmp_path)), recipe)
    assert isinstance(stage, Estimator)
    figures = run(stage)

    gain, log_z = gained(model, data)
    assert GAINS[name] < gain < TRUTH - ONE_GAUSSIAN + 0.1
    assert all(torch.equal(value, vae[key]) for key, value in model.vae.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert all(map(torch.equal, stage.energy.parameters(), stage.optimizer.ema.mean))
    last = {key: sum(row[key] for row in figures[-20:]) / 20 for key in figures[-1]}
    if name == "ratio":
        assert -0.3 < last["ratio_excess"] < -0.15
        assert log_z == pytest.approx(0.0, abs=0.15)  # a ratio is normalised by itself
    if name == "importance":
        assert last["loss"] == pytest.approx(-gain, abs=0.06)  # the loss is the likelihood that is lost
    if name in ("ratio", "importance"):
        assert last["gap"] > 0.5  # the base's samples stay what they are
        assert 0.4 < last["proposal_ess"] < 0.8
    else:
        assert last["stuck_fraction"] == 0
        assert 0.85 < last["acceptance"] < 1.0
    if name in ("divergence", "persistent"):
        assert abs(last["gap"]) < 0.25  # chains follow the energy
    if name == "rounds":
        assert -0.14 < last["ratio_excess"] < 0.0  # of data against chains that look like data


def test_chains_go_on_where_the_buffer_left_them(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data, _, model, _ = trained
    persistent = recipe.energy_stage.phases["persistent"].model_copy(
        update={"replay_prob": 1.0, "replay_ramp_iterations": 0, "buffer": 256}
    )
    stage_settings = recipe.energy_stage.model_copy(update={"phases": {"persistent": persistent}})
    recipe = recipe.model_copy(update={"energy_stage": stage_settings})
    work = training(copy.deepcopy(model), recipe, data, Engine("cpu", 0, None, tmp_path))
    stage = stage_of("persistent", work, recipe)
    begun, ended = [], []

    def recorded(*arguments: Any) -> tuple[Tensor, dict[str, float]]:
        begun.append(arguments[1].clone())
        position, figures = moved(*arguments)
        ended.append(position.clone())
        return position, figures

    monkeypatch.setattr(contrastive_divergence, "moved", recorded)
    stage.begin()
    for iteration in range(3):
        stage.step(iteration)
    for before, after in itertools.pairwise(zip(begun, ended, strict=True)):
        assert torch.equal(before[1].sort(0).values, after[0].sort(0).values)  # all 256, in some order
        assert not torch.equal(after[0], after[1])


@pytest.mark.parametrize("fix_codes", [False, True])
def test_chains_that_cannot_start_are_reported_as_stuck(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fix_codes: bool
) -> None:
    recipe, data, _, model, _ = trained
    if fix_codes:  # then nobody asks for E_z, which a flow makes dear
        monkeypatch.setattr(type(model.energy_net.base), "of_z", None)
    for name in ("divergence", "persistent", "rounds"):
        broken = copy.deepcopy(model)
        start = broken.settings.init.model_copy(update={"importance_samples": 1})
        broken.update_settings(broken.settings.model_copy(update={"fix_codes": fix_codes, "init": start}))
        stage = stage_of(name, training(broken, recipe, data, Engine("cpu", 0, None, tmp_path)), recipe)
        assert isinstance(stage, Estimator)
        stage.begin()
        with torch.no_grad():
            for weight in stage.energy.parameters():
                weight.fill_(torch.nan)
        assert stage.step(0)["stuck_fraction"] == 1.0


@pytest.mark.parametrize(("fraction", "chains", "restarts"), [(1.0, 20, 20), (0.5, 20, 10), (0.5, 1, 1), (0.0, 20, 1)])
def test_a_round_restarts_a_fraction_of_the_chains_and_moves_the_others_on(
    fraction: float, chains: int, restarts: int, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data, _, model, _ = trained
    phase = recipe.energy_stage.phases["rounds"].model_copy(
        update={"restart_fraction": fraction, "chains": chains, "rounds": 2, "iterations_per_round": 2}
    )
    stage_settings = recipe.energy_stage.model_copy(update={"phases": {"rounds": phase}})
    recipe = recipe.model_copy(update={"energy_stage": stage_settings})
    work = training(copy.deepcopy(model), recipe, data, Engine("cpu", 0, None, tmp_path))
    stage = stage_of("rounds", work, recipe)
    assert isinstance(stage, RatioRounds)
    runs: list[tuple[Tensor, int | None, Tensor]] = []

    def recorded(
        training: Training, position: Tensor, sampler: SamplerSettings | None, task: str
    ) -> tuple[Tensor, dict[str, float]]:
        end, figures = moved(training, position, sampler, task)
        runs.append((position, sampler and sampler.steps, end))
        return end, figures

    monkeypatch.setattr(ratio_rounds, "moved", recorded)
    figures = run(stage)
    kept = chains - restarts
    assert [(len(position), steps) for position, steps, _ in runs] == [
        (chains, 40),
        (restarts, 40),
        *([(kept, 20)] if kept else []),
    ]
    assert stage.position is not None
    assert torch.equal(stage.position, torch.cat([end for _, _, end in runs[1:]]))
    if kept:
        first_ends = {tuple(row.tolist()) for row in runs[0][2]}
        assert all(tuple(row.tolist()) in first_ends for row in runs[2][0])
    assert all(0 < row["acceptance"] <= 1 for row in figures)


@pytest.mark.parametrize("name", ["ratio", "importance", "divergence", "rounds"])
def test_drift_is_looked_at_where_the_loss_says_nothing(name: str, trained: Trained, tmp_path: Path) -> None:
    """A healthy density ratio moves a young energy as far as a rate that is too high does in contrastive divergence."""
    work = training(copy.deepcopy(trained.model), trained.recipe, trained.data, Engine("cpu", 0, None, tmp_path))
    stage = stage_of(name, work, trained.recipe)
    stage.begin()
    assert ("drift" in stage.step(0)) == (name == "divergence")
