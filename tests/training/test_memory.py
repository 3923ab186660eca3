"""Memory that runs out: parts of a batch have the gradient of the whole; a run goes on or says what to lower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vaebm
from vaebm.energy.mlp import MLPEnergy
from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.train import build_model, train
from vaebm.progress import silent
from vaebm.training.engine import Engine
from vaebm.training.memory import is_out_of_memory
from vaebm.training.stage import Training
from vaebm.vae.base import FlatVAE

CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError(CPU), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_say_so(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def gradients(stage: Any, parts: int) -> list[Tensor]:
    """Of the first step, with the noise of its own."""
    stage.training.engine.take_noise(0)
    stage.training.shuffled_sampler.position = 0
    stage.prepare()
    stage.parts = parts
    stage.step(0)
    return [weight.grad.clone() for weight in stage.optimizer.weights]


@pytest.mark.parametrize("phase", ["ratio", "divergence", "importance", "rounds"])
@pytest.mark.parametrize("penalty", ["", ", energy_square: 0.1, score_matching: {weight: 0.5}"])
def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(
    phase: str, penalty: str, points: Path, engine: Engine
) -> None:
    kind = {"ratio": "density_ratio", "divergence": "contrastive_divergence"}.get(phase, phase)
    more = ", rounds: 1, iterations_per_round: 4, chains: 32, restart_steps: 3" if phase == "rounds" else ""
    kind = "ratio_rounds" if phase == "rounds" else kind
    recipe = load_recipe(points, [f"energy_stage.phases={{it: {{kind: {kind}{more}{penalty}}}}}"])
    data = recipe.data.load()
    model = build_model(recipe, data, torch.device("cpu"))
    stage: Any = recipe.training_settings().stages(Training(model, data.train, engine, silent(), 0))[-1]
    with torch.no_grad():
        for weight in stage.energy.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    start = {name: value.clone() for name, value in stage.energy.state_dict().items()}
    whole = gradients(stage, 1)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in whole)
    for parts in (2, 3, 16):
        stage.energy.load_state_dict(start)
        for expected, found in zip(whole, gradients(stage, parts), strict=True):
            torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-6)


def small_memory(rows: int, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A forward pass for which there is memory, with a gradient, of so many rows at most."""

    def forward(net: Any, x: Tensor, *more: Any) -> Tensor:
        if torch.is_grad_enabled() and len(x) > rows and any(weight.requires_grad for weight in net.parameters()):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(net, x, *more)

    return forward


def test_a_run_goes_on_in_parts_and_says_so(points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MLPEnergy, "of_x", small_memory(12, MLPEnergy.of_x))
    monkeypatch.setattr(FlatVAE, "infer", small_memory(9, FlatVAE.infer))
    run = train(points, tmp_path / "run", device="cpu")
    said = {event["stage"]: event["message"] for event in run.events() if event["event"] == "memory"}
    assert said.keys() == {"vae", "ratio", "rounds", "divergence", "importance"}
    assert "iteration 0: a batch of 16 is learned from in 2 parts" in said["vae"]
    assert "in 4 parts" in said["ratio"]  # of 16 data and 32 samples
    assert vaebm.load(run.path).sample(4).isfinite().all()
    assert Run.open(run.path).history()[-1]["iteration"] == 4


def test_without_memory_for_one_it_says_what_to_lower(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlatVAE, "infer", small_memory(0, FlatVAE.infer))
    with pytest.raises(InputError, match=r"out of memory in vae, iteration 0.*vae_stage\.batch_size"):
        train(points, tmp_path / "run", device="cpu")


def test_an_objective_that_compares_rows_is_not_taken_apart(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlatVAE, "infer", small_memory(9, FlatVAE.infer))
    with pytest.raises(InputError, match=r"with 16 data at a time: lower vae_stage\.batch_size"):
        train(points, tmp_path / "run", device="cpu", overrides=["vae_stage.objective={kind: total_correlation}"])
