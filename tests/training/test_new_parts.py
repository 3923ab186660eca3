"""A new part is a class and a line: once registered, recipes find it, training uses it, and resumed runs are exact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import vaebm
from vaebm.data import Batch
from vaebm.distributions.likelihood import GaussianSettings
from vaebm.energy import JOINT_ENERGIES, LATENT_ENERGIES, Energy, JointEnergySettings, MixtureEnergy
from vaebm.energy.base import linear_from_zero
from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.nn.initialise import initialise
from vaebm.training.estimators import ESTIMATORS, LATENT_ESTIMATORS
from vaebm.training.estimators.base import IteratedSettings
from vaebm.training.estimators.contrast import Contrast, ContrastEstimator, ContrastSettings
from vaebm.training.estimators.negatives import base_samples
from vaebm.vae import VAE, VAES, FlatVAE, VAESettings, elbo
from vaebm.vae.objectives import OBJECTIVES, Objective, ObjectiveSettings

# An estimator: least squares between energies of -1 for data and 1 for samples of the base.


class SquaresSettings(ContrastSettings, IteratedSettings):
    """Settings of the toy estimator."""

    kind: Literal["squares"] = "squares"
    margin: float = 1.0


class Squares(ContrastEstimator):
    """The toy estimator."""

    settings_type = SquaresSettings

    def step(self, iteration: int) -> dict[str, float]:
        data = self.data()
        positive, negative = self.energies(data, base_samples(self.training, data.rows))
        margin = self.settings.margin
        loss = (positive + margin).square().mean() + (negative - margin).square().mean()
        return self.learn_from(Contrast.of(loss, positive, negative), positive, negative, iteration)


# An objective with a net and an optimizer of its own, which tell the labels from the codes.


class LabelsSettings(ObjectiveSettings):
    """Settings of the toy objective."""

    kind: Literal["labels"] = "labels"
    weight: float = 1.0

    def build(self, vae: VAE, generator: torch.Generator) -> Objective:
        return Labels(self.weight, vae.code_dim, generator)


class Labels(Objective):
    """The ELBO, less the nats at which a linear classifier of its own reads the labels off the codes."""

    def __init__(self, weight: float, code_dim: int, generator: torch.Generator) -> None:
        self.weight, self.net = weight, nn.Linear(code_dim, 10)
        initialise(self.net, generator)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        self.steps = 0

    def loss(
        self, vae: VAE, batch: Batch, generator: torch.Generator, warmup: float
    ) -> tuple[Tensor, dict[str, float]]:
        assert batch.y is not None
        bound = elbo(vae, batch.x, generator, warmup)
        inference = vae.infer(batch.x, generator)
        own = nn.functional.cross_entropy(self.net(inference.z.detach()), batch.y)
        self.optimizer.zero_grad()
        own.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1
        tells = nn.functional.cross_entropy(self.net(inference.z), batch.y)
        return -bound.value.mean() + self.weight * tells, {**bound.figures(), "label_nats": float(own.detach())}

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


# A term on x and z.


class PairsSettings(JointEnergySettings):
    """Settings of the toy energy."""

    kind: Literal["pairs"] = "pairs"
    hidden: int = 8

    def build(self, data_shape: tuple[int, ...], latent_dim: int, generator: torch.Generator) -> Energy:
        return Pairs(torch.Size(data_shape).numel() + latent_dim, self.hidden, generator)


class Pairs(Energy):
    """A net on x and z side by side."""

    reads_x = reads_z = True

    def __init__(self, values: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.body = nn.Linear(values, hidden)
        initialise(self.body, generator)
        self.out = linear_from_zero(hidden)

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        assert z is not None
        energy: Tensor = self.out(torch.tanh(self.body(torch.cat([x.flatten(1), z], 1))))
        return energy.squeeze(1)


# A VAE.


class LinearSettings(VAESettings):
    """Settings of the toy VAE."""

    kind: Literal["linear"] = "linear"

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        values, head = torch.Size(data_shape).numel(), GaussianSettings().build()
        decoder = nn.Linear(2, values * head.outputs_per_value)
        vae = FlatVAE(data_shape, 2, nn.Linear(values, 4), decoder, head)
        initialise(vae, generator)
        return vae


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """One line each; taken back, so that no other test meets them."""
    ESTIMATORS.register(Squares)
    OBJECTIVES.register(LabelsSettings)
    JOINT_ENERGIES.register(PairsSettings)
    VAES.register(LinearSettings)
    yield
    del ESTIMATORS["squares"], OBJECTIVES["labels"], JOINT_ENERGIES["pairs"], VAES["linear"]


def rows(run: Path) -> list[dict[str, Any]]:
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", "message")} for row in told]


def resumed_equals_whole(run: Run) -> None:
    """From a checkpoint inside each stage to the same end, bit for bit."""
    weights = run.path / "model" / "model.safetensors"
    end, told = weights.read_bytes(), rows(run.path)
    kept = sorted((run.path / "checkpoints").iterdir())
    for name in kept[::-3]:
        for newer in (run.path / "checkpoints").iterdir():
            if newer > name:
                shutil.rmtree(newer)
        shutil.rmtree(run.path / "model")
        train(run.path, device="cpu")
        assert weights.read_bytes() == end, name
        assert rows(run.path) == told


EVERY = ["checkpoint.every_seconds=0", "checkpoint.keep=99"]
ONE = ["energy_stage.phases.rounds=null", "energy_stage.phases.divergence=null", "energy_stage.phases.importance=null"]
JOINT = ["energy.image=null", "energy.joint={kind: pairs}"]


def test_an_estimator(points: Path, tmp_path: Path) -> None:
    phase = "energy_stage.phases.mine={kind: squares, iterations: 4, margin: 2}"
    run = train(points, tmp_path / "run", device="cpu", overrides=[phase, *ONE, *EVERY])
    mine = [row for row in rows(run.path) if row.get("stage") == "mine" and "event" not in row]
    assert len(mine) == 4
    assert {"loss", "contrast", "gap", "gradient_norm"} <= mine[0].keys()
    assert mine[0]["loss"] == pytest.approx(8.0, abs=1.0)  # (0 + 2)^2 + (0 - 2)^2, and little learned before
    resumed_equals_whole(run)


def test_an_objective_with_a_net_of_its_own(images: Path, tmp_path: Path) -> None:
    none = ["energy.image=null", "energy.latent=null", "fix_codes=false", *EVERY]
    labels = "vae_stage.objective={kind: labels, weight: 0.5}"
    run = train(images, tmp_path / "run", device="cpu", overrides=[labels, *none])
    told = [row for row in rows(run.path) if row.get("stage") == "vae" and "event" not in row]
    assert {"loss", "elbo", "kl_z", "label_nats"} <= told[0].keys()
    resumed_equals_whole(run)


@pytest.mark.parametrize("more", [[], ["sampler={kind: mala, step_size: 0.01, steps: 2}", "fix_codes=true"]])
def test_a_term_on_x_and_z(points: Path, tmp_path: Path, more: list[str]) -> None:
    two = ["energy_stage.phases.divergence=null", "energy_stage.phases.importance=null"]
    run = train(points, tmp_path / "run", device="cpu", overrides=[*JOINT, *two, *EVERY, *more])
    model = vaebm.load(run.path)
    x, z = torch.randn(5, 2), torch.randn(5, 2)
    assert model.energy(x, z).std() > 0  # it learned
    assert not torch.equal(model.energy_over_base(x, z), model.energy_over_base(x, z + 1.0))
    assert model.sample(6).shape == (6, 2)
    assert model.sample(6).isfinite().all()
    stages = {row["stage"]: row for row in rows(run.path) if "event" not in row}
    assert {"gap", "ratio_excess"} <= stages["ratio"].keys()
    assert {"gap", "ratio_excess", "acceptance"} <= stages["rounds"].keys()
    resumed_equals_whole(run)


def test_the_term_on_x_and_z_learns_what_pairs_of_data_have(points: Path, tmp_path: Path) -> None:
    """Codes of data given x are not what the base draws with it: E(x, z) is lower on pairs of data."""
    phases = ["energy_stage.phases.ratio={kind: density_ratio, iterations: 150, learning_rate: 1.0e-2}", *ONE]
    more = ["energy_stage.batch_size=128", "vae_stage.objective.kl_weight=4", "vae_stage.iterations=60"]
    run = train(points, tmp_path / "run", device="cpu", overrides=[*JOINT, *phases, *more])
    model, data = vaebm.load(run.path), run.data().test
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x = data.all()
        of_data = model.energy_over_base(x, model.vae.infer(x, generator).z)
        of_base = model.energy_over_base(*model.generate(model.sample_base(2000, generator)))
    assert of_data.mean() < of_base.mean() - 5 * of_base.std() / len(of_data) ** 0.5


def test_a_vae(points: Path, tmp_path: Path) -> None:
    run = train(points, tmp_path / "run", device="cpu", overrides=["vae={kind: linear}", *ONE])
    assert vaebm.load(run.path).sample(3).shape == (3, 2)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("energy_stage.phases.ratio.iteratons=3", "did you mean energy_stage.phases.ratio.iterations"),
        ("energy_stage.phases.ratio.kind=density", "energy_stage.phases.ratio.kind is 'density'.*'density_ratio'"),
        ("energy_stage.phases.mine={kind: squares, margn: 3}", "did you mean energy_stage.phases.mine.margin"),
        ("energy_stage.phases.mine={iterations: 3}", "energy_stage.phases.mine.kind is missing"),
        ("vae_stage.objective.kl_wieght=3", "did you mean vae_stage.objective.kl_weight"),
        ("vae_stage.objective.kind=lables", "vae_stage.objective.kind is 'lables'.*'labels'"),
        ("energy.joint={kind: pears}", "energy.joint.kind is 'pears'.*'pairs'"),
        ("energy.image.kind=mpl", "energy.image.kind is 'mpl'.*'mlp'"),
        ("vae.latent_dims=3", "did you mean vae.latent_dim"),
    ],
)
def test_a_mistake_is_answered_with_what_is_registered(points: Path, override: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_recipe(points, [override])


def test_what_is_registered_no_more_cannot_be_asked_for(points: Path) -> None:
    del JOINT_ENERGIES["pairs"]
    with pytest.raises(InputError, match=r"energy\.joint\.kind is 'pairs'.*'mlp'"):
        load_recipe(points, ["energy.joint={kind: pairs}"])
    with pytest.raises(InputError, match=r"did you mean energy\.joint"):
        load_recipe(points, ["energy.jiont={kind: pairs}"])
    JOINT_ENERGIES.register(PairsSettings)


def test_a_term_on_codes_without_an_estimator_is_refused(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(LATENT_ESTIMATORS, MixtureEnergy)
    with pytest.raises(InputError, match="MixtureEnergy"):
        train(points, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    assert "correction" in LATENT_ENERGIES
