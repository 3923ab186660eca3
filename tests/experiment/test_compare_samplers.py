"""Comparing samplers: what they spend, what is said of their chains, what is advised, and what is left on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaebm import sampling
from vaebm.errors import InputError
from vaebm.evaluation.feature_space import FeatureSpace
from vaebm.experiment import compare_samplers as module
from vaebm.experiment.compare_samplers import compare_samplers
from vaebm.experiment.contender import KernelContender, Terms
from vaebm.experiment.data_noise import data_noise
from vaebm.experiment.mixing import Watch, between_populations, between_starts
from vaebm.experiment.populations import ImportanceContender, mean_energy
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sampler_advice import Advisor
from vaebm.experiment.spending import learn, spend
from vaebm.experiment.train import build_model
from vaebm.report.sampler_page import write_samplers_page

POINTS = (
    "data.train_size=500", "data.test_size=300", "vae.latent_dim=3", "vae.hidden=[8]", "energy.image.hidden=[8]",
    "energy.image.fourier_features=4",
)  # fmt: skip
# Three latents: quadrature, which takes half a minute, is not feasible.
IMAGES = ("vae.hidden=[16]", "energy.image.stem=4", "energy.image.widths=[4,4]", "vae.latent_dim=4")


def standard(x: torch.Tensor) -> torch.Tensor:
    return -0.5 * x.square().sum(dim=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nothing(_: int) -> None:
    pass


def make_run(path: Path, name: str, overrides: tuple[str, ...]) -> Run:
    recipe = load_recipe(name, overrides).for_device(torch.device("cpu"))
    run = Run.create(path, recipe)
    model = build_model(recipe, run.data(), torch.device("cpu"))
    energy = model.energy_net.image
    assert energy is not None
    last = [p for p in energy.parameters() if p.ndim == 2][-1]
    with torch.no_grad():  # an untrained energy is 0
        last.normal_(0.0, 0.1, generator=generator(1))
    run.save_model(model.eval())
    return run


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("points") / "run", "gaussians25", POINTS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("images") / "run", "digits", IMAGES)


# Spending


@pytest.mark.parametrize("name", list(sampling.KERNELS))
def test_every_kernel_spends_its_gradients_and_no_more(name: str) -> None:
    kernel = sampling.KERNELS[name]()
    evaluations = 0

    def counting(x: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += len(x)
        return standard(x)

    trace = spend(kernel, counting, torch.randn(6, 3, generator=generator()), 41, generator(), marks=(5, 20))
    assert trace.gradients <= 41
    assert trace.gradients > 41 - kernel.gradients_per_step
    assert evaluations == trace.gradients * 6
    spent = [gradients for gradients, _ in trace.marks]
    assert spent == sorted(set(spent))
    assert all(gradients >= mark for gradients, mark in zip(spent, (5, 20), strict=True))


def test_trajectories_end_exactly_with_the_budget() -> None:
    for gradients in (7, 30, 41):
        trace = spend(
            sampling.KERNELS["hmc"](), standard, torch.randn(4, 2, generator=generator()), gradients, generator()
        )
        assert trace.gradients == gradients


def test_an_unadjusted_chain_that_leaves_the_finite_numbers_stops_there() -> None:
    def cliff(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > 0.5, torch.nan, 0.0) + standard(x)

    trace = spend(sampling.KERNELS["langevin"](step_size=0.5), cliff, torch.zeros(200, 1), 60, generator())
    assert trace.diverged > 0.5
    assert bool((trace.position <= 0.5).all())


@pytest.mark.parametrize("name", list(sampling.KERNELS))
def test_a_pilot_learns_numbers_for_unit_mass(name: str) -> None:
    scale = torch.tensor([1.0, 0.2])
    begin = scale * torch.randn(64, 2, generator=generator())
    kernel, spent = learn(sampling.KERNELS[name](), lambda x: standard(x / scale), begin, 300, generator(), nothing)
    inner: Any = getattr(kernel, "kernel", kernel)
    assert inner.inverse_mass == 1.0
    assert spent < 500
    trace = spend(kernel, lambda x: standard(x / scale), begin, 400, generator())
    assert math.isfinite(trace.acceptance)
    assert trace.acceptance > 0.4


# Mixing


def watch(dim: int) -> Watch:
    found = Watch(dim, lambda x: {"sum": x.sum(dim=1)}, generator())
    found(torch.zeros(2, dim))
    return found


def test_independent_draws_count_in_full() -> None:
    draws = torch.randn(120, 60, 3, generator=generator())
    history = torch.cat([draws, draws.sum(dim=2, keepdim=True)], dim=2)
    found = between_starts(history, -draws[:, :, 0], watch(2 + 1), 4.0)
    assert found is not None
    assert found.rhat < 1.02
    assert found.rhat_between_starts is not None
    assert found.rhat_between_starts < 1.02
    assert found.ess_per_gradient == pytest.approx(1 / 4, rel=0.2)


def test_chains_that_stay_where_they_are_are_seen() -> None:
    places = torch.randn(60, 3, generator=generator())
    draws = places + 0.01 * torch.randn(40, 60, 3, generator=generator())
    history = torch.cat([draws, draws.sum(dim=2, keepdim=True)], dim=2)
    found = between_starts(history, draws[:, :, 0], watch(3), 1.0)
    assert found is not None
    assert found.rhat > 5
    assert found.rhat_between_starts is not None
    assert found.rhat_between_starts < 1.3
    assert found.ess_per_gradient < 0.01


def test_groups_that_remember_their_start_are_seen() -> None:
    draws = torch.randn(40, 60, 3, generator=generator())
    draws[:, 30:] += 3.0
    history = torch.cat([draws, draws.sum(dim=2, keepdim=True)], dim=2)
    found = between_starts(history, draws[:, :, 0], watch(3), 1.0)
    assert found is not None
    assert found.rhat_between_starts is not None
    assert found.rhat_between_starts > 1.5


def test_too_few_steps_tell_nothing() -> None:
    assert between_starts(torch.randn(7, 60, 4, generator=generator()), torch.zeros(7, 60), watch(3), 1.0) is None


def test_populations_of_independent_samples_count_in_full() -> None:
    draws = torch.randn(3200, 3, generator=generator())
    found = between_populations(torch.cat([draws, draws.sum(dim=1, keepdim=True)], dim=1), draws[:, 0], watch(3), 10.0)
    assert found.rhat < 1.01
    assert 0.04 < found.ess_per_gradient <= 0.1
    copies = draws[:32].repeat_interleave(100, dim=0)
    found = between_populations(
        torch.cat([copies, copies.sum(dim=1, keepdim=True)], dim=1), copies[:, 0], watch(3), 10.0
    )
    assert found.ess_per_gradient < 0.002


# Starts from data


@pytest.mark.parametrize("likelihood", ["gaussian", "censored"])
def test_data_noise_gives_the_data_back(likelihood: str) -> None:
    recipe = load_recipe("digits", (*IMAGES, f"vae.likelihood.kind={likelihood}")).for_device(torch.device("cpu"))
    data = recipe.data.load()
    model = build_model(recipe, data, torch.device("cpu"))
    x = data.test.all()[:50]
    eps = data_noise(model, x, generator())
    assert bool(eps.isfinite().all())
    torch.testing.assert_close(model.decode(eps), x, atol=1e-5, rtol=0)


def test_noise_beyond_an_end_has_the_truncated_distribution() -> None:
    recipe = load_recipe("digits", (*IMAGES, "precision=float32"))
    data = recipe.data.load()
    model = build_model(recipe, data, torch.device("cpu"))
    x = torch.full((400, *data.shape), -1.0)
    eps = data_noise(model, x, generator())
    with torch.no_grad():
        gaussian = model.vae.decode(model.vae.latent(eps[:, : model.vae.latent_dim])).gaussian
    limit = ((-1.0 - gaussian.mean) / gaussian.scale).flatten(1).double()
    share = torch.special.ndtr(eps[:, model.vae.latent_dim :].double()) / torch.special.ndtr(limit)
    assert float(share.max()) <= 1 + 1e-5
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)  # uniform
    assert float(share.var()) == pytest.approx(1 / 12, abs=0.005)


# Populations


def test_importance_gives_the_model(points: Run) -> None:
    model = points.model()
    n = 2000
    with model.frozen(), torch.no_grad():
        start = model.sample_base(n, generator(3))
        terms = Terms(model, start, start[:8], 30, Watch(model.noise.dim, lambda _: {}, generator()), 0)
        course = ImportanceContender().run(terms, nothing)
        exact = model.sample_base(60_000, generator(9))
        log_weights = (model.noise_log_density(exact) - standard(exact)).double()
        constant = model.noise.dim / 2 * math.log(2 * math.pi)
        assert course.log_z is not None
        wanted = float(log_weights.logsumexp(0)) - math.log(len(exact)) + constant
        assert course.log_z.value == pytest.approx(wanted, abs=5 * course.log_z.stderr + 0.01)
        found = mean_energy(model, 40_000, generator(4))
        assert found is not None
        assert model.energy_net.image is not None
        energies = model.energy_net.image(model.decode(course.samples[-1][1]))
        assert float(energies.mean()) == pytest.approx(found[0], abs=5 * float(energies.std()) / math.sqrt(n))
    assert [gradients for gradients, _ in course.samples] == [2, 4, 8, 15, 30]


# Advice


def row(name: str, *looks: tuple[int, float], stderr: float = 0.1, **more: Any) -> dict[str, Any]:
    shift = more.pop("shift", None)
    curve = [
        {
            "gradients": gradients,
            "quality": {"d": value} | ({} if shift is None else {"energy_shift": shift}),
            "quality_stderr": {"d": stderr} | ({} if shift is None else {"energy_shift": 0.1}),
        }
        for gradients, value in looks
    ]
    found = {"sampler": name, "rhat": 2.0, "rhat_between_starts": 1.01, "n": 100, "curve": curve, **curve[-1]}
    return found | more


def advise(*rows: dict[str, Any], start: float = 9.0) -> Any:
    return Advisor(rows, "d", {"key": "distance"}, {"d": (start, 0.1), "energy_shift": (2.0, 0.1)}).advice()


def test_the_best_is_recommended() -> None:
    found = advise(row("a", (10, 5.0), (200, 3.0)), row("b", (10, 5.0), (200, 1.0)))
    assert found.sampler == "b"
    assert found.text.startswith(
        "Use b: after 200 gradients a sample its distance is 1.00 ± 0.10, the smallest of all."
    )
    assert "Behind at equal cost: a (3)." in found.text


def test_of_equals_the_one_that_arrives_first_is_recommended() -> None:
    found = advise(row("a", (10, 1.05), (200, 1.05)), row("b", (10, 5.0), (200, 1.0)))
    assert found.sampler == "a"
    assert "within a standard error of the smallest (1.00 ± 0.10, b); 10 gradients are enough" in found.text
    assert "Not told apart from it, with the gradients that they need: b (200)." in found.text


def test_a_wrong_mean_energy_is_no_arrival() -> None:
    found = advise(row("a", (10, 1.0), (200, 1.0), shift=0.9), row("b", (200, 1.05), shift=0.1))
    assert found.sampler == "b"
    assert "a (mean energy off by +0.90 nats)" in found.text


def test_where_no_mean_energy_is_right_the_smallest_distance_stays() -> None:
    found = advise(row("a", (200, 1.0), shift=0.9), row("b", (200, 1.05), shift=2.0))
    assert found.sampler == "a"
    assert "its mean energy still differs from that of the model" in found.text


def test_the_advice_says_when_nothing_is_gained() -> None:
    assert "none of them is measurably better" in advise(row("a", (200, 1.0)), start=1.1).text
    assert "none of them is measurably better" not in advise(row("a", (200, 1.0)), start=2.0).text


@pytest.mark.parametrize(
    ("alone", "together", "said"),
    [(1.02, 1.01, "Its chains mix"), (2.0, 1.01, "agree as groups"), (2.0, 1.5, "differ even as groups")],
)
def test_the_advice_says_what_chains_forget(alone: float, together: float, said: str) -> None:
    assert said in advise(row("a", (200, 1.0), rhat=alone, rhat_between_starts=together)).text


# The whole


FEW = {"gradients": 40, "n": 64}


def test_points_from_start_to_page(points: Run, tmp_path: Path) -> None:
    comparison = compare_samplers(points, out=tmp_path / "out", **FEW)
    rows = json.loads((tmp_path / "out" / "samplers.json").read_text())
    assert {row["sampler"] for row in rows} >= set(sampling.KERNELS) | {"importance", "recipe"}
    for found in rows:
        assert 0 < found["gradients"] <= 44
        assert {"acceptance", "ess_per_gradient", "ess_per_second", "rhat"} <= found.keys()
        assert {"modes_covered", "within_three_sigma", "mode_chi_square", "model_kl"} <= found["quality"].keys()
        assert found["quality"] == found["curve"][-1]["quality"]
        with np.load(tmp_path / "out" / "samples" / f"{found['sampler']}.npz") as file:
            assert file["points"].shape == (64, 2)
    assert [("advice" in found) for found in rows].count(True) == 1
    page = write_samplers_page(points, comparison).read_text()
    assert page.count("<svg") == 0  # pictures are data URIs
    for outside in ("http://", "https://", 'src="/', '<link rel="style'):
        assert outside not in page.replace("http://www.w3.org", "")
    assert comparison.rows[0]["sampler"] == "recipe"


def test_finished_samplers_are_kept(points: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_samplers(points, out=tmp_path, only=["mala"], **FEW)
    before = json.loads((tmp_path / "samplers.json").read_text())
    run = KernelContender.run

    def interrupted(self: KernelContender, terms: Terms, advance: Any) -> Any:
        assert self.name != "mala"
        if self.name == "tempering":
            raise KeyboardInterrupt
        return run(self, terms, advance)

    monkeypatch.setattr(KernelContender, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare_samplers(points, out=tmp_path, only=["mala", "langevin", "tempering"], **FEW)
    kept = json.loads((tmp_path / "samplers.json").read_text())
    assert [row["sampler"] for row in kept] == ["mala", "langevin"]
    assert kept[0]["curve"] == before[0]["curve"]
    monkeypatch.setattr(KernelContender, "run", run)
    done = compare_samplers(points, out=tmp_path, only=["mala", "langevin", "tempering"], **FEW)
    assert [row["sampler"] for row in done.rows] == ["langevin", "mala", "tempering"]


def test_another_protocol_replaces(points: Run, tmp_path: Path) -> None:
    compare_samplers(points, out=tmp_path, only=["mala"], **FEW)
    done = compare_samplers(points, out=tmp_path, only=["langevin"], gradients=30, n=64)
    assert [row["sampler"] for row in done.rows] == ["langevin"]


def test_the_same_seed_gives_the_same_samples(points: Run, tmp_path: Path) -> None:
    first = compare_samplers(points, out=tmp_path / "a", only=["hmc", "importance"], **FEW)
    again = compare_samplers(points, out=tmp_path / "b", only=["importance", "hmc"], **FEW)
    for name in ("hmc", "importance"):
        assert np.array_equal(first.samples(name), again.samples(name))
    assert not np.array_equal(
        first.samples("hmc"), compare_samplers(points, out=tmp_path / "c", only=["hmc"], seed=1, **FEW).samples("hmc")
    )


def test_images_are_compared_by_their_features_and_energies(
    images: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaebm import metrics

    monkeypatch.setattr(module.ImageJudge, "features", lambda *_: {})
    monkeypatch.setattr(FeatureSpace, "features", metrics.pixel_features())
    done = compare_samplers(images, out=tmp_path, only=["recipe", "mala", "importance"], gradients=30, n=128)
    for found in done.rows:
        assert {"frechet_distance", "kernel_distance", "energy_shift"} <= found["quality"].keys()
    assert done.samples("mala").shape == (128, 8, 8, 1)
    assert done.samples("mala").dtype == np.uint8
    text = write_samplers_page(images, done).read_text()
    assert "Mean energy less the model" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"only": ["hmcc"]}, "there is no sampler 'hmcc': did you mean 'hmc'?"),
        ({"n": 10}, "10 samples tell no sampler from another: give at least 64"),
        ({"only": ["smc"], "gradients": 3, "n": 64}, "raise --gradients"),
        ({"only": ["recipe"], "gradients": 20, "n": 64}, "raise --gradients"),
    ],
)
def test_wrong_input(points: Run, tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        compare_samplers(points, out=tmp_path, **arguments)


def test_a_run_without_a_model(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_recipe("gaussians25", POINTS))
    with pytest.raises(InputError, match="has no model yet"):
        compare_samplers(run)


def test_a_folder_that_is_none(points: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        compare_samplers(points, out=tmp_path / "file")
    with pytest.raises(InputError, match="is a run"):
        compare_samplers(points, out=points.path)
    (tmp_path / "samplers.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        compare_samplers(points, out=tmp_path, **FEW)
