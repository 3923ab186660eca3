"""A new kernel is one class and one line: recipes, the JSON schema, sampling and tables then know it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import vaebm
from vaebm.cli import main
from vaebm.comparison.run import candidates
from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe, recipe_of
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import train
from vaebm.models import in_noise_space
from vaebm.sampling import KERNELS, sample_chains
from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, RunLength, StepInfo, evaluate, number
from vaebm.sampling.metropolis import metropolis

RECIPE = """\
summary: four Gaussians, learned in a second
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200}
vae: {kind: mlp, latent_dim: 3, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
energy: {image: {kind: mlp, hidden: [8]}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 3, batch_size: 16}
energy_stage: {batch_size: 16, phases: {ratio: {kind: density_ratio, iterations: 3}}}
threads: 1
"""


@dataclass(frozen=True, eq=False)
class RandomWalk(Kernel):
    """Metropolis' own algorithm: a step of Gaussian or uniform noise."""

    kind: ClassVar[str] = "random_walk"
    label: ClassVar[str] = "a random walk"
    adjusted: ClassVar[bool] = True
    run_length: ClassVar[RunLength] = RunLength(steps=7)

    width: float = number(0.5, "standard deviation of a step", gt=0, le=10)
    noise: Literal["normal", "uniform"] = number("normal", "what a step is made of")

    def step(self, state: ChainState, target: LogDensity, generator: torch.Generator) -> tuple[ChainState, StepInfo]:
        noise = torch.empty_like(state.position)
        noise = (
            noise.normal_(generator=generator) if self.noise == "normal" else noise.uniform_(-1, 1, generator=generator)
        )
        position = state.position + self.width * noise
        log_density, score = evaluate(target, position)
        return metropolis(state, ChainState(position, log_density, score), log_density - state.log_density, generator)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    KERNELS.register(RandomWalk)
    yield
    del KERNELS["random_walk"]


def gaussian(x: Tensor) -> Tensor:
    return -x.square().sum(dim=1) / 2


def test_a_recipe_can_say_it() -> None:
    recipe = load_recipe("gaussians25", ["sampler.kind=random_walk", "sampler.width=2"])
    assert recipe.sampler.model_dump() == {
        "kind": "random_walk",
        "steps": 7,
        "warmup": 0,
        "gradients": None,
        "width": 2.0,
        "noise": "normal",
    }
    saved = recipe.model_settings()
    assert type(saved).model_validate(saved.model_dump(mode="json")).sampler == recipe.sampler
    kernel = recipe.sampler.build()
    assert isinstance(kernel, RandomWalk)
    assert kernel.width == 2


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("sampler.widht=2", "did you mean sampler.width?"),
        ("sampler.width=0", "sampler.width is 0"),
        ("sampler.noise=brown", "sampler.noise is 'brown'"),
        ("sampler.kind=random", "'random_walk'"),
    ],
)
def test_a_recipe_that_says_it_wrongly_is_told_what_is_right(override: str, word: str) -> None:
    words = ["sampler.kind=random_walk", override]
    with pytest.raises(InputError) as failure:
        load_recipe("gaussians25", words)
    assert word in str(failure.value)


def test_editors_know_it() -> None:
    schema = recipe_of("vaebm").model_json_schema()
    assert "random_walk" in schema["properties"]["sampler"]["discriminator"]["mapping"]
    assert schema["$defs"]["RandomWalkSettings"]["properties"]["width"]["description"] == "standard deviation of a step"


def test_python_refuses_what_a_recipe_does() -> None:
    with pytest.raises(ValueError, match=r"width is 11; .* above 0 and of at most 10"):
        RandomWalk(width=11)
    with pytest.raises(ValueError, match=r"noise is 'brown'; .* 'normal', 'uniform'"):
        RandomWalk(noise="brown")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width is wide"):
        RandomWalk(width="wide")  # type: ignore[arg-type]


def test_it_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    begin = torch.randn(2000, 2, generator=generator)
    chains = sample_chains(gaussian, begin, RandomWalk(), steps=20, warmup=5, generator=generator)
    assert chains.position.var(dim=0).sub(1).abs().max() < 4 * (2 / 2000) ** 0.5
    assert chains.gradients.tolist() == [26] * 2000
    assert sample_chains(gaussian, begin, RandomWalk(), gradients=11, generator=generator).steps == 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("walk")
    (folder / "tiny.yaml").write_text(RECIPE)
    return train(folder / "tiny.yaml", folder / "run", device="cpu")


def test_the_command_line_samples_with_it(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "walked.npz"
    words = ["sample", str(run.path), "--n", "20", "--out", str(out), "--quiet", "sampler.kind=random_walk"]
    assert main([*words, "sampler.width=0.3"]) == 0
    with np.load(out, allow_pickle=False) as file:
        points = file["points"]
        assert points.shape == (20, 2)
        assert np.isfinite(points).all()
    model = vaebm.load(run.path)
    model.update_settings(run.with_overrides(["sampler.kind=random_walk", "sampler.width=0.3"]).model_settings())
    assert np.array_equal(points, model.sample(20).numpy())
    capsys.readouterr()
    assert main([*words, "sampler.width=11"]) == 2
    assert "sampler.width" in capsys.readouterr().err


def test_it_is_compared_with_the_built_in_ones(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "random_walk" in candidates(in_noise_space(run.model()))
    words = ["compare-samplers", str(run.path), "--only", "random_walk,mala", "--out", str(tmp_path), "--quiet"]
    assert main([*words, "--n", "64", "--gradients", "40"]) == 0
    assert "random_walk" in capsys.readouterr().out
    rows = {row["sampler"]: row for row in json.loads((tmp_path / "samplers.json").read_text())}
    assert set(rows) == {"random_walk", "mala"}
    assert rows["random_walk"]["gradients"] <= 40
    assert rows["random_walk"]["moved"] > 0.5
    assert rows["random_walk"]["settings"]["width"] == 0.5
    # What the comparison advises gives the kernel that it ran.
    recipe = run.with_overrides(rows["random_walk"]["settings"]["overrides"])
    assert isinstance(recipe.sampler.build(), RandomWalk)
    assert "random_walk" in (tmp_path / "samplers.html").read_text()


def test_a_recipe_trains_with_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    overrides = ["sampler.kind=random_walk", "energy_stage.phases.chains={kind: contrastive_divergence, iterations: 4}"]
    run = train(tmp_path / "tiny.yaml", tmp_path / "run", device="cpu", overrides=overrides)
    assert isinstance(run.recipe.sampler.build(), RandomWalk)
    assert "acceptance" in run.history()[-1]


def test_another_part_cannot_take_its_name() -> None:
    with pytest.raises(ValueError, match="RandomWalk"):
        KERNELS.register(type("Other", (RandomWalk,), {}))
