"""Comparisons from a run to rows and samples on disk, and to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaebm import metrics, sampling
from vaebm.comparison.candidate import Setup
from vaebm.comparison.kernel_candidate import KernelCandidate
from vaebm.comparison.run import compare_samplers
from vaebm.comparison.scorer import ImageScorer
from vaebm.errors import InputError
from vaebm.evaluation.feature_space import FeatureSpace
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run
from vaebm.report.sampler_page import write_samplers_page
from vaebm.sampling import MALA

FEW: dict[str, Any] = {"gradients": 40, "n": 64}


def test_points_from_start_to_page(points: Run, tmp_path: Path) -> None:
    comparison = compare_samplers(points, out=tmp_path / "out", **FEW)
    rows = json.loads((tmp_path / "out" / "samplers.json").read_text())
    assert [row["sampler"] for row in rows] == ["recipe", *sampling.KERNELS, "importance"]
    for row in rows:
        assert 40 - 2 < row["gradients"] <= 40
        assert {"acceptance", "ess_per_gradient", "ess_per_second", "rhat"} <= row.keys()
        assert {"modes_covered", "within_three_sigma", "mode_chi_square", "model_kl"} <= row["quality"].keys()
        assert row["quality"] == row["curve"][-1]["quality"]
        assert row["quality_stderr"] == row["curve"][-1]["quality_stderr"]
        assert row["gradients"] == row["curve"][-1]["gradients"]
        assert row["moved"] > 0.5
        with np.load(tmp_path / "out" / "samples" / f"{row['sampler']}.npz", allow_pickle=False) as file:
            assert file["points"].shape == (64, 2)
            assert bool(np.isfinite(file["points"]).all())
    assert [("advice" in row) for row in rows].count(True) == 1
    page = write_samplers_page(points, comparison).read_text()
    assert all(row["sampler"] in page for row in rows if row["sampler"] not in ("recipe", "importance", "smc"))
    for outside in ("http://", "https://", 'src="/', '<link rel="style'):
        assert outside not in page.replace("http://www.w3.org", "")


def test_quality_is_that_of_the_samples_on_disk(points: Run, tmp_path: Path) -> None:
    done = compare_samplers(points, out=tmp_path, only=["mala"], **FEW)
    truth = points.data().truth
    assert truth is not None
    measured = metrics.mode_measurements(torch.from_numpy(done.samples("mala")), truth.modes, truth.scale)
    for name, m in measured.items():
        assert done.rows[0]["quality"][name] == pytest.approx(m.value, rel=1e-6)


def test_finished_samplers_are_kept(points: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_samplers(points, out=tmp_path, only=["mala"], **FEW)
    before = json.loads((tmp_path / "samplers.json").read_text())
    run = KernelCandidate.run

    def interrupted(self: KernelCandidate, setup: Setup, advance: Any) -> Any:
        assert self.name != "mala"
        if self.name == "tempering":
            raise KeyboardInterrupt
        return run(self, setup, advance)

    monkeypatch.setattr(KernelCandidate, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare_samplers(points, out=tmp_path, only=["mala", "langevin", "tempering"], **FEW)
    kept = json.loads((tmp_path / "samplers.json").read_text())
    assert [row["sampler"] for row in kept] == ["mala", "langevin"]
    assert kept[0]["curve"] == before[0]["curve"]
    monkeypatch.setattr(KernelCandidate, "run", run)
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
    other = compare_samplers(points, out=tmp_path / "c", only=["hmc"], seed=1, **FEW)
    assert not np.array_equal(first.samples("hmc"), other.samples("hmc"))


def test_numbers_may_be_numpys(points: Run, tmp_path: Path) -> None:
    counts: dict[str, Any] = {"gradients": np.int64(40), "n": np.int32(64), "seed": np.int64(0)}
    done = compare_samplers(points, out=tmp_path, only=["mala"], **counts)
    assert [row["sampler"] for row in done.rows] == ["mala"]


def test_images_are_compared_by_their_features_and_energies(
    images: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageScorer, "features", lambda *_: {})
    monkeypatch.setattr(FeatureSpace, "features", metrics.pixel_features())
    done = compare_samplers(images, out=tmp_path, only=["recipe", "mala", "importance"], gradients=30, n=128)
    assert [row["sampler"] for row in done.rows] == ["recipe", "mala", "importance"]
    for row in done.rows:
        assert {"frechet_distance", "kernel_distance", "energy_shift"} <= row["quality"].keys()
    assert done.samples("mala").shape == (128, 8, 8, 1)
    assert done.samples("mala").dtype == np.uint8
    # Weighted draws have the model's mean energy, draws of the base have not.
    shift, stderr = (done.rows[2][key]["energy_shift"] for key in ("quality", "quality_stderr"))
    assert abs(shift) < 4 * stderr
    start = next(m for m in done.start if m.name == "energy_shift")
    assert start.value > 4 * start.stderr
    assert "Mean energy less the model" in write_samplers_page(images, done).read_text()


def test_a_sampler_whose_chains_never_moved_is_not_advised(
    points: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = KernelCandidate("mala", "MALA", lambda _: MALA(step_size=1e6), learns=False)
    honest = KernelCandidate("langevin", "Langevin", lambda _: sampling.KERNELS["langevin"](step_size=1e-4))
    monkeypatch.setattr("vaebm.comparison.run.kernel_candidates", lambda _: [stuck, honest])
    alone = compare_samplers(points, out=tmp_path / "alone", only=["mala"], **FEW).rows[0]
    assert alone["moved"] == 0
    assert alone["ess_per_gradient"] is None
    assert alone["ess_per_second"] is None
    assert "advice" not in alone
    # Hardly an energy and one look each: the base itself is as good as any, and soonest there.
    both = compare_samplers(points, out=tmp_path / "both", only=["mala", "langevin"], **FEW).rows
    assert [row["sampler"] for row in both if "advice" in row] == ["langevin"]


def test_the_callers_threads_stay(points: Run, tmp_path: Path) -> None:
    assert points.recipe.threads == 1
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compare_samplers(points, out=tmp_path, only=["mala"], **FEW)
        assert torch.get_num_threads() == 2
        with pytest.raises(InputError):
            compare_samplers(points, out=tmp_path, only=["nonsense"], **FEW)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"only": ["hmcc"]}, "'hmc'"),
        ({"n": 10}, "at least 64"),
        ({"only": ["smc"], "gradients": 3, "n": 64}, "--gradients"),
        ({"only": ["recipe"], "gradients": 20, "n": 64}, "--gradients"),
        ({"overrides": ["fix_codes=true"]}, "fix_codes"),
    ],
)
def test_wrong_input(points: Run, tmp_path: Path, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        compare_samplers(points, out=tmp_path, **arguments)


def test_a_run_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model yet"):
        compare_samplers(Run.create(tmp_path / "run", load_recipe("gaussians25")))


def test_a_folder_that_is_none(points: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        compare_samplers(points, out=tmp_path / "file")
    with pytest.raises(InputError, match="is a run"):
        compare_samplers(points, out=points.path)
    (tmp_path / "samplers.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        compare_samplers(points, out=tmp_path, **FEW)
