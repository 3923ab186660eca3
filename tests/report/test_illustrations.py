"""What a report shows is what was drawn and measured: chains at chosen steps, stored samples, energies, densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vaebm.data.transforms import to_uint8
from vaebm.evaluation import density_maps
from vaebm.evaluation.chain_record import SEED, ChainRecord, animation_steps, milestones, record_chains
from vaebm.evaluation.density_maps import DensityMaps, map_densities
from vaebm.evaluation.stored_draws import energies_of_draws, stored_rows
from vaebm.experiment import illustrate as module
from vaebm.experiment.evaluate import evaluation_of, stored_draws
from vaebm.experiment.illustrate import illustrate
from vaebm.experiment.run_directory import Run
from vaebm.models import NoiseSpaceModel
from vaebm.progress import silent

MakeRun = Callable[..., Run]


def generator(seed: int = SEED) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density_maps, "X_POINTS", 121)
    monkeypatch.setattr(density_maps, "LATENT_POINTS", 61)
    monkeypatch.setattr(module, "MAX_IMAGES", 48)
    monkeypatch.setattr(module, "FEW_POINTS", 100)


@pytest.mark.parametrize("kind", ["langevin", "mala", "hmc", "underdamped"])
@pytest.mark.parametrize("fix_codes", ["true", "false"])
def test_a_record_is_of_the_chains_that_the_model_runs(make_run: MakeRun, kind: str, fix_codes: str) -> None:
    overrides = [f"sampler={{kind: {kind}, steps: 5, warmup: 4}}", f"fix_codes={fix_codes}"]
    model: NoiseSpaceModel = make_run("digits", overrides).model()
    record = record_chains(model, silent())
    count, own = record.run.chains, generator()
    order = torch.randperm(count, generator=own)
    start = model.start(count, own)[order]
    chains = model.chains(start, own)
    assert record.run.steps == list(range(10))
    assert record.run.acceptance == pytest.approx(float(chains.acceptance.mean()))
    for x, eps in ((record.x[0], start), (record.x[-1], chains.position)):
        assert torch.equal(to_uint8(x), to_uint8(model.render(eps, "sample", generator())))
    assert record.run.moves_codes == (fix_codes == "false")


def test_a_record_comes_back_from_its_file_and_only_for_its_weights(make_run: MakeRun, tmp_path: Path) -> None:
    record = record_chains(make_run("gaussians25").model(), silent())
    record.save(tmp_path / "chains.safetensors", "abc")
    back = ChainRecord.load(tmp_path / "chains.safetensors", (2,), "abc")
    assert back is not None
    assert back.run == record.run
    assert torch.equal(back.x, record.x)
    assert ChainRecord.load(tmp_path / "chains.safetensors", (2,), "def") is None
    assert ChainRecord.load(tmp_path / "chains.safetensors", (3,), "abc") is None


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        ([], "mixture"),
        (["energy.latent=null"], "prior"),
        (["energy.latent={kind: correction, hidden: [8]}"], "latent_energy"),
        (["init.importance_samples=2"], "chosen"),
    ],
)
def test_where_chains_start_is_known(make_run: MakeRun, overrides: Sequence[str], start: str) -> None:
    assert record_chains(make_run("digits", overrides).model(), silent()).run.start == start


def test_a_ctrl_c_is_not_swallowed(make_run: MakeRun) -> None:
    class Pressed:
        def advance(self, _: int) -> None:
            raise KeyboardInterrupt

    class Progress(type(silent())):  # type: ignore[misc]
        @contextmanager
        def task(self, *_: Any, **__: Any) -> Any:
            yield Pressed()

    with pytest.raises(KeyboardInterrupt):
        record_chains(make_run("digits").model(), Progress())


def test_milestones() -> None:
    assert milestones(1) == [0, 1]
    assert milestones(12) == [0, 1, 2, 5, 10, 12]
    assert milestones(100) == [0, 1, 2, 5, 10, 20, 50, 100]
    assert milestones(1000)[-2:] == [500, 1000]


def test_an_animation_begins_at_the_start_and_ends_at_the_end() -> None:
    steps = animation_steps(60, 16)
    assert steps[0] == 0
    assert steps[-1] == 60
    assert steps == sorted(set(steps))
    assert animation_steps(3, 16) == [0, 1, 2, 3]


@pytest.mark.parametrize("subject", ["vae", "vae_mixture", "vaebm"])
def test_stored_samples_and_energies_are_those_of_the_draw_that_is_measured(make_run: MakeRun, subject: str) -> None:
    run = make_run("digits")
    model = run.model()
    shown = evaluation_of(run, run.recipe, run.data(), model, 60, silent()).samples(subject).shown
    stored = stored_draws(run, run.data().shape)
    rows = stored_rows(len(shown["sample"]), run.data().shape)
    samples, means, energies = stored.load(subject, "sample"), stored.load(subject, "mean"), stored.energies(subject)
    assert samples is not None
    assert means is not None
    assert torch.equal(to_uint8(samples), to_uint8(shown["sample"][rows]))
    assert not torch.equal(samples, means)
    eps = model.draw(len(shown["sample"]), generator(), subject)
    expected = energies_of_draws(model, eps[rows])
    assert expected is not None
    assert energies is not None
    torch.testing.assert_close(energies, expected)


def test_what_is_there_is_not_made_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("gaussians25")
    first = illustrate(run)
    assert first.draws.subjects() == ["start", "truth", "vae", "vae_mixture", "vaebm"]
    for name in ("record_chains", "map_densities"):
        monkeypatch.setattr(module, name, None)
    monkeypatch.setattr("vaebm.evaluation.Evaluation.samples", None)
    again = illustrate(run)
    assert again.chains is not None
    assert first.chains is not None
    assert torch.equal(again.chains.x, first.chains.x)


def test_measured_samples_are_kept(make_run: MakeRun) -> None:
    run = make_run("digits")
    evaluation_of(run, run.recipe, run.data(), run.model(), 20, silent()).samples("vae")
    n = stored_draws(run, run.data().shape).about("vae")["n"]
    found = illustrate(run)
    assert found.draws.about("vae")["n"] == n
    assert found.draws.about("vae_mixture")["n"] == 48


def test_samples_that_cannot_be_drawn_are_refused_in_words(make_run: MakeRun) -> None:
    run = make_run("digits")
    path = run.path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["energy_net.image.out.weight"].fill_(torch.nan)
    save_file(weights, path)
    found = illustrate(run)
    assert found.model.refused.keys() == {"vaebm"}
    assert found.chains is not None
    assert "finite" in found.chains.run.refusal
    energies = found.draws.energies("vae")
    assert energies is not None
    assert bool(energies.isnan().all())


def test_densities_are_normalised_and_the_truth_is_its_own(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("gaussians25")
    data = run.data()
    found = map_densities(run.model(), data)
    assert list(found.maps) == ["truth", "vae", "vae_mixture", "vaebm"]
    low, high = found.extent
    axis = torch.linspace(low, high, 121)
    log_cell = 2 * math.log(float(axis[1] - axis[0]))
    assert float((found.maps["vaebm"] + log_cell).exp().sum()) == pytest.approx(1.0, abs=0.01)
    assert data.truth is not None
    corner = data.truth.log_prob(torch.tensor([[low, high]]))
    assert float(found.maps["truth"][0, -1]) == pytest.approx(float(corner), rel=1e-4)
    found.save(tmp_path / "densities.safetensors", "abc")
    back = DensityMaps.load(tmp_path / "densities.safetensors", "abc")
    assert back is not None
    assert back.extent == found.extent
    assert [m.subject for m in back.log_likelihoods] == ["vae", "vae_mixture", "vaebm"]
    assert back.energy is not None


def test_models_without_exact_densities_have_a_reason(make_run: MakeRun) -> None:
    run = make_run("gaussians25", ["vae.latent_dim=3"])
    found = map_densities(run.model(), run.data())
    assert found.refusal
    assert not found.maps
