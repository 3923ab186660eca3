"""Another model family is one file and one line: a Gaussian, trained by a recipe, saved, loaded, sampled, encoded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

import vaebm
from vaebm.cli import main
from vaebm.comparison.run import compare_samplers
from vaebm.distributions.gaussian import DiagonalGaussian
from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.sample import write_samples
from vaebm.experiment.train import train
from vaebm.models import MODELS, VAEBM, Model, ModelSettings, Show
from vaebm.training.stage import Stage, Training
from vaebm.training.stages import TrainingSettings

RECIPE = """\
kind: toy
summary: one Gaussian, in a blink
data: {kind: gaussians, side: 1, train_size: 400, test_size: 100}
seed: 3
moments: {batches: 4, batch_size: 50}
logging: {every: 1}
threads: 1
"""


class Toy(Model):
    """N(mean, diag(scale^2)); x is its own code, in units of the scale."""

    subjects: ClassVar[tuple[str, ...]] = ("toy", "origin")

    def __init__(self, data_shape: tuple[int, ...], settings: Any) -> None:
        super().__init__()
        self.settings, self.data_shape = settings, data_shape
        self.mean, self.log_scale = nn.Parameter(torch.zeros(data_shape)), nn.Parameter(torch.zeros(data_shape))

    @property
    def gaussian(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean[None], self.log_scale[None])

    def energy(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        assert x is not None
        return -self.gaussian.log_prob(x)

    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        return -self.energy(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.gaussian.transport_inverse(x).flatten(1).detach()

    def draw(self, n: int, generator: torch.Generator, subject: str | None = None, *_: Any) -> Tensor:
        noise = torch.randn(n, *self.data_shape, generator=generator)
        return noise if subject == "toy" else torch.zeros_like(noise)

    @torch.no_grad()
    def render(self, draws: Tensor, show: Show, generator: torch.Generator) -> Tensor:
        return self.gaussian.transport(draws if show == "sample" else 0 * draws) * self.settings.zoom


class Moments(Stage):
    """Mean and scale of batches."""

    name = "moments"

    def __init__(self, training: Training, batches: int, batch_size: int) -> None:
        self.training, self.iterations, self.batch_size, self.seen = training, batches, batch_size, torch.zeros(0, 2)

    def begin(self) -> None:
        """Nothing was seen yet."""

    def step(self, iteration: int) -> dict[str, float]:
        self.seen = torch.cat([self.seen, self.training.batch(self.batch_size).x])
        return {"loss": float(self.training.model.energy(self.seen).detach().mean())}

    @torch.no_grad()
    def end(self) -> None:
        self.training.model.mean.copy_(self.seen.mean(0))
        self.training.model.log_scale.copy_(self.seen.std(0).log())

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class MomentsSettings(BaseModel):
    """How many points are looked at."""

    batches: int = 1
    batch_size: int = 10


class ToySettings(ModelSettings, TrainingSettings):
    """A family that says itself how it is trained."""

    changeable: ClassVar[frozenset[str]] = frozenset({"zoom"})

    kind: Literal["toy"] = "toy"
    zoom: float = Field(1.0, gt=0, description="factor of what is shown")
    moments: MomentsSettings = MomentsSettings()

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator, **parts: Any) -> Toy:
        return Toy(data_shape, self)

    def stages(self, training: Training) -> list[Stage]:
        return [Moments(training, self.moments.batches, self.moments.batch_size)]


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    MODELS.register(ToySettings)
    yield
    del MODELS["toy"]


@pytest.fixture(scope="module")
def run(registered: None, tmp_path_factory: pytest.TempPathFactory) -> vaebm.Run:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.yaml").write_text(RECIPE)
    return train(folder / "toy.yaml", folder / "run", device="cpu")


def test_a_recipe_trains_it(run: vaebm.Run) -> None:
    assert run.is_complete
    assert [row["stage"] for row in run.history()] == ["moments"] * 4
    points = run.data().train.all()
    model = run.model()
    assert isinstance(model, Toy)
    torch.testing.assert_close(model.mean.detach(), points.mean(0), rtol=0, atol=0.02)


def test_it_is_saved_with_its_kind_and_loaded_by_every_door(run: vaebm.Run, tmp_path: Path) -> None:
    config = json.loads((run.path / "model" / "config.json").read_text())
    assert (config["kind"], config["data_shape"]) == ("toy", [2])
    assert isinstance(config["format"], int)
    expected = run.model().sample(3)
    for model in (vaebm.load(run.path), Toy.from_pretrained(run.path), Model.from_pretrained(run.path / "model")):
        assert isinstance(model, Toy)
        assert torch.equal(model.sample(3), expected)
    model.save_pretrained(tmp_path / "copy")
    assert torch.equal(vaebm.load(tmp_path / "copy").sample(3), expected)
    with pytest.raises(InputError, match="Toy"):
        VAEBM.from_pretrained(run.path)


def test_it_is_sampled_into_files_by_its_own_subjects(run: vaebm.Run, tmp_path: Path) -> None:
    def points(name: str, **more: Any) -> np.ndarray:
        return np.load(write_samples(run.path, 50, tmp_path / f"{name}.npz", **more), allow_pickle=False)["points"]

    assert np.array_equal(points("own"), run.model().sample(50).numpy())
    assert points("origin", subject="origin").std(0).max() < 1e-6
    np.testing.assert_allclose(points("large", overrides=["zoom=2"]), 2 * points("own"), rtol=1e-6)
    with pytest.raises(InputError, match="origin"):
        points("other", subject="vae")
    with pytest.raises(InputError, match="gradients"):
        points("bounded", gradients=10)
    out = tmp_path / "command.npz"
    assert main(["sample", str(run.path), "--n", "2", "--out", str(out), "--subject", "origin", "--quiet"]) == 0
    assert out.is_file()


def test_it_is_measured_by_what_applies_to_it(run: vaebm.Run) -> None:
    measured = {(m.name, m.subject): m for m in vaebm.evaluate(run, n=80)}
    assert {subject for _, subject in measured} == {"truth", "toy", "origin"}
    assert {name for name, _ in measured} >= {"within_three_sigma", "seconds_per_thousand"}
    # What needs a VAE, an energy beside it or chains is not there.
    assert not {name for name, who in measured if who in Toy.subjects} & {"log_likelihood", "log_z", "elbo"}
    assert measured["within_three_sigma", "toy"].value == pytest.approx(0.99, abs=0.05)
    assert measured["within_three_sigma", "toy"].settings.keys().isdisjoint({"sampler", "start", "fix_codes"})
    assert main(["evaluate", str(run.path), "--quiet", "--only", "within_three_sigma"]) == 0


@pytest.mark.parametrize("measured", [False, True])
def test_its_page_shows_what_it_has(run: vaebm.Run, tmp_path: Path, measured: bool) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "measurements.json").unlink(missing_ok=True)
    if measured:
        vaebm.evaluate(vaebm.Run.open(tmp_path / "run"), n=80)
    page = vaebm.write_report(vaebm.Run.open(tmp_path / "run")).read_text()
    for word in ("toy", "origin", "truth", "moments"):
        assert word in page
    said = re.sub(r"<[^>]*>", "", page)
    assert not re.search(r"\bVAE|chains", said)
    for left_out in ("log-likelihood", "normaliser", "ELBO"):
        assert left_out in said
    # The pictures of its samples are there, and none of chains, which it does not have.
    assert page.count("<img") >= 4
    assert 'id="samples"' in page
    assert 'id="chains"' not in page
    assert not (tmp_path / "run" / "samples" / "chains.png").exists()
    assert (tmp_path / "run" / "samples" / "comparison.png").is_file()


def test_what_only_chains_can_do_is_refused(run: vaebm.Run) -> None:
    with pytest.raises(InputError, match="Toy"):
        compare_samplers(run, gradients=10)


def test_it_encodes(run: vaebm.Run) -> None:
    codes = run.model().encode(run.data().train.all())
    torch.testing.assert_close(codes.std(0), torch.ones(2), rtol=0.1, atol=0)


def test_its_recipe_has_its_own_keys_and_those_of_every_recipe(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    assert load_recipe(path, ["zoom=3", "evaluation.n=5"]).zoom == 3
    for override, said in (("zoo=3", "zoom"), ("vae.latent_dim=2", "vae"), ("zoom=-1", "zoom"), ("kind=toi", "toy")):
        with pytest.raises(InputError, match=said):
            load_recipe(path, [override])
