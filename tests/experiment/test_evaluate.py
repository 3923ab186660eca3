"""Measurements: their names and protocol, and that work that was done is not done again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from vaebm.data import DigitsSettings, Split
from vaebm.data.transforms import to_uint8
from vaebm.errors import InputError
from vaebm.evaluation import likelihood, metric
from vaebm.evaluation.stored_draws import stored_rows
from vaebm.experiment.evaluate import evaluate, stored_draws
from vaebm.experiment.illustrate import MIN_IMAGES, illustrate
from vaebm.experiment.run_directory import DATA, Run
from vaebm.metrics import classifier
from vaebm.metrics.inception import Inception
from vaebm.metrics.measurement import Measurement
from vaebm.models import VAEBM, draws

pytestmark = pytest.mark.filterwarnings("ignore:a Frechet distance of")

# Reports and other programs find a number by these names.
NAMES = {
    *("frechet_distance", "kernel_distance", "inception_score", "precision", "recall", "density", "coverage"),
    *("vendi_score", "memorised_fraction", "modes_covered", "within_three_sigma", "mode_kl", "log_likelihood"),
    *("log_likelihood_lower", "log_likelihood_upper", "elbo", "log_z", "ood_auroc", "few_label_accuracy", "mig"),
    *("dci_disentanglement", "dci_completeness", "dci_informativeness", "sap", "factor_vae_score"),
}
FURTHER = {"seconds_per_thousand", "pixels_between_ends", "class_gap", "energy_gain", "energy_shift"}
ON_FEATURES = {"frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"}
OF_IMAGES = ("held_out", "reconstruction", "vae", "vae_mixture", "start", "vaebm")
NATS = {("energy_gain", "vaebm"), ("energy_shift", "start"), ("energy_shift", "vaebm")}
SUBJECTS = {"vaebm", "start", "vae", "vae_mixture", "reconstruction", "held_out", "truth"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is trained for a moment, and a coarse quadrature."""
    monkeypatch.setattr(classifier, "MAX_IMAGES", 5 * classifier.BATCH)

    class Density:
        log_z, error = 0.01, 0.001

        def log_likelihood(self, points: Any) -> Measurement:
            return Measurement("log_likelihood", -2.0, 0.01, len(points), {"method": "quadrature"})

    monkeypatch.setattr(metric, "plane_quadrature", lambda model, with_energy: Density())


def keys(measurements: list[Measurement]) -> set[tuple[str, str]]:
    return {(m.name, m.subject) for m in measurements}


def saved(run: Run) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((run.path / "measurements.json").read_text())
    return records


def test_points(points_run: Run) -> None:
    found = evaluate(points_run)
    modes = {"modes_covered", "within_three_sigma", "mode_kl"}
    assert keys(found) == {
        *((name, subject) for name in modes for subject in ("truth", "vae", "vae_mixture", "start", "vaebm")),
        *NATS,
        *(("log_likelihood", subject) for subject in ("truth", "vae", "vaebm")),
        ("elbo", "vae"),
        ("log_z", "vaebm"),
        ("seconds_per_thousand", "vaebm"),
    }
    assert {m.name for m in found} <= NAMES | FURTHER
    assert saved(points_run) == [m.to_json() for m in found]
    assert keys(points_run.measurements()) == keys(found)


def test_images(digits_run: Run) -> None:
    found = evaluate(digits_run, n=30)
    assert keys(found) == {
        *((name, subject) for name in {*ON_FEATURES, "pixels_between_ends", "class_gap"} for subject in OF_IMAGES),
        *(("log_likelihood_lower", subject) for subject in ("vae", "vae_mixture", "start")),
        *NATS,
        ("elbo", "vae"),
        *(("few_label_accuracy", subject) for subject in ("held_out", "vaebm")),
        ("seconds_per_thousand", "vaebm"),
    }
    assert {m.name for m in found} <= NAMES | FURTHER
    for m in found:
        if m.name in ON_FEATURES:
            assert m.settings["features"] == "classifier"
            assert len(m.settings["sha256"]) == 64
            distance = m.name in ("frechet_distance", "kernel_distance")
            assert m.n == (60 if distance and m.subject not in ("held_out", "reconstruction") else 30)
            assert m.settings["reference_n"] == (360 if distance else 30)
            assert m.settings["split"] == "test"
        if m.name == "pixels_between_ends":
            assert m.settings["levels"] == 16
    assert (digits_run.path / "model" / "classifier.safetensors").is_file()


def test_images_without_labels_are_measured_on_pixels(photos_run: Run) -> None:
    found = evaluate(photos_run, only=["frechet_distance"])
    assert {m.settings["features"] for m in found} == {"pixels"}
    assert {m.name for m in found} == {"frechet_distance"}


@pytest.fixture
def inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the first layers where they are looked for, and no cache but this test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VAEBM_DATA", raising=False)
    with torch.random.fork_rng():
        network = Inception(64)
    state = {}
    for name, layer in network.named_children():
        state[f"{name}.conv.weight"] = layer.weight.contiguous()
        state |= {
            f"{name}.bn.{part}": torch.ones(layer.bias.shape)
            for part in ("weight", "bias", "running_mean", "running_var")
        }
    path = tmp_path / "cache" / "vaebm" / "inception" / "pt_inception-2015-12-05-to-Mixed_6e.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(safetensors.torch.save(state))


def test_feature_spaces_stand_beside_each_other(
    digits_run: Run, inception: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ["evaluation.features={classifier: {n: 30}, inception-64: {n: 20, reference_n: 40}}"]
    found = evaluate(digits_run, overrides=both, only=["frechet_distance", "kernel_distance"])
    distances = [m for m in found if m.name == "frechet_distance"]
    assert len(distances) == 2 * (len(OF_IMAGES) + len(OF_IMAGES) - 1)  # samples at their best noise, too
    for m in distances:
        n, reference_n = {"classifier": (30, 360), "inception-64": (20, 40)}[m.settings["features"]]
        draws = 1 if m.subject in ("held_out", "reconstruction") else 2
        assert (m.n, m.settings["reference_n"]) == (n * draws, reference_n)
        assert ("noise_scale" in m.settings) == (m.settings.get("show") == "scaled")
        assert len(m.settings["sha256"]) == 64
    assert {m.settings["samples_asked"] for m in found if m.name == "seconds_per_thousand"} <= {30}
    assert len(list((tmp_path / "cache" / "vaebm" / "features").iterdir())) == 2  # test and validation images
    # What is measured on one of them is kept when the other is asked for, or measured in another way.
    monkeypatch.setattr(VAEBM, "draw", None)
    before = saved(digits_run)
    for same in (both, ["evaluation.features={inception-64: {n: 20, reference_n: 40}}"]):
        again = evaluate(digits_run, overrides=same, subjects=["held_out"], only=["frechet_distance"])
        assert [m.to_json() for m in again] == before
    other = ["evaluation.features={inception-64: {n: 20, reference_n: 30}}"]
    again = evaluate(digits_run, overrides=other, subjects=["held_out"], only=["frechet_distance"])
    of = {(m.name, m.subject, m.settings.get("features")): m for m in again}
    assert of["frechet_distance", "held_out", "inception-64"].settings["reference_n"] == 30
    assert of["frechet_distance", "held_out", "classifier"] in distances
    assert len(again) == len(found)


def test_features_by_name_alone(digits_run: Run, photos_run: Run) -> None:
    evaluation = digits_run.with_overrides(["evaluation.features=inception-768"]).evaluation
    assert list(evaluation.features or ()) == ["inception-768"]
    evaluation = digits_run.with_overrides(["evaluation.features=[pixels, classifier]"]).evaluation
    assert list(evaluation.features or ()) == ["pixels", "classifier"]
    with pytest.raises(InputError, match="inception-768"):
        digits_run.with_overrides(["evaluation.features=inception"])
    with pytest.raises(InputError, match="no labels to train it on: use pixels"):
        evaluate(photos_run, overrides=["evaluation.features=classifier"])


def test_the_records_are_as_the_interface_says(digits_run: Run) -> None:
    evaluate(digits_run, n=20, only=["frechet_distance", "elbo"])
    for record in saved(digits_run):
        assert record.keys() == {"name", "subject", "value", "stderr", "n", "settings"}
        assert record["name"] in NAMES
        assert record["subject"] in SUBJECTS
        assert isinstance(record["value"], float)
        assert record["stderr"] >= 0
        settings = record["settings"]
        assert settings["seed"] == 0
        assert settings["split"] == "test"
        assert ("show" in settings) == (record["subject"] != "held_out" and record["name"] != "elbo")
        assert ("sampler" in settings) == (record["subject"] == "vaebm")
    sampler = next(record["settings"]["sampler"] for record in saved(digits_run) if record["subject"] == "vaebm")
    assert sampler["kind"] == "langevin"
    assert sampler["steps"] == 2


def test_a_stopped_evaluation_goes_on(points_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {(m.name, m.subject): m.value for m in evaluate(points_run)}
    (points_run.path / "measurements.json").unlink()
    drawn: list[str] = []
    real = VAEBM.draw

    def draw(model: Any, n: int, generator: Any, subject: Any, *further: Any, **more: Any) -> Any:
        drawn.append(subject)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return real(model, n, generator, subject, *further, **more)

    monkeypatch.setattr(VAEBM, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        evaluate(points_run)
    assert {subject for _, subject in keys(points_run.measurements())} == {"truth", "vae"}
    found = evaluate(points_run)
    assert drawn == ["vae", "vae_mixture", "vae_mixture", "start", "vaebm"]  # the VAE's are not drawn again
    del whole["seconds_per_thousand", "vaebm"]
    assert {(m.name, m.subject): m.value for m in found if m.name != "seconds_per_thousand"} == whole


def test_what_is_measured_by_the_same_protocol_is_kept(points_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(points_run)
    before = saved(points_run)
    monkeypatch.setattr(VAEBM, "draw", None)
    monkeypatch.setattr(likelihood, "elbo", None)
    assert [m.to_json() for m in evaluate(points_run)] == before


@pytest.mark.parametrize("override", ["evaluation.seed=1", "evaluation.n=50", "sampler.steps=5"])
def test_another_protocol_measures_again_and_replaces(override: str, points_run: Run) -> None:
    first = evaluate(points_run)
    second = evaluate(points_run, overrides=[override])
    assert keys(first) == keys(second)
    assert len(second) == len(first)
    of = {(m.name, m.subject): m for m in second}["modes_covered", "vaebm"]
    assert of not in first
    if override == "sampler.steps=5":
        assert of.settings["sampler"]["steps"] == 5
        assert {(m.name, m.subject): m for m in first}["mode_kl", "vae"] in second  # which needs no sampler


def test_n(points_run: Run) -> None:
    found = evaluate(points_run, n=30, only=["modes_covered"])
    assert {(m.n, m.settings["samples_asked"]) for m in found if m.subject != "truth"} == {(30, 30)}
    assert {m.n for m in evaluate(points_run, only=["modes_covered"])} == {200}  # as many as are held out
    for n in (1, 0, -3):
        with pytest.raises(InputError, match=f"n is {n}: measure at least 2 samples"):
            evaluate(points_run, n=n)


def test_only(points_run: Run) -> None:
    assert {m.name for m in evaluate(points_run, only=["mode_kl"])} == {"mode_kl"}
    assert {m.name for m in evaluate(points_run, only=["elbo", "log_z"])} == {"mode_kl", "elbo", "log_z"}
    for name, hint in [("mode_k", "'mode_kl'"), ("zzz", "within_three_sigma")]:
        with pytest.raises(InputError, match=f"{name}.*{hint}"):
            evaluate(points_run, only=[name])
    with pytest.raises(InputError, match="name a measurement"):
        evaluate(points_run, only=[])
    with pytest.raises(InputError, match="'frechet_distance' for these data"):
        evaluate(points_run, only=["frechet_distance"])


@pytest.mark.parametrize("override", ["vae.latent_dim=3", "fix_codes=true"])
def test_a_density_that_is_not_that_of_the_samples_is_not_measured(
    points_recipe: Any, tmp_path: Any, override: str
) -> None:
    from vaebm.experiment.train import train

    run = train(points_recipe, tmp_path / "run", device="cpu", overrides=[override])
    found = evaluate(run)
    assert ("log_likelihood", "truth") in keys(found)
    assert not {("log_likelihood", "vae"), ("log_likelihood", "vaebm"), ("log_z", "vaebm")} & keys(found)
    assert ("modes_covered", "vaebm") in keys(found)


def test_only_what_is_asked_for_is_computed(points_run: Run, digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAEBM, "draw", None)
    assert keys(evaluate(digits_run, only=["elbo"])) == {("elbo", "vae")}
    assert keys(evaluate(points_run, only=["elbo", "log_z"])) == {("elbo", "vae"), ("log_z", "vaebm")}
    monkeypatch.undo()
    monkeypatch.setattr(metric, "plane_quadrature", None)
    assert {name for name, _ in keys(evaluate(points_run, only=["mode_kl"]))} == {"elbo", "log_z", "mode_kl"}


def test_subjects(points_run: Run) -> None:
    found = evaluate(points_run, only=["modes_covered"], subjects=["vae", "vaebm"])
    assert keys(found) == {("modes_covered", "vae"), ("modes_covered", "vaebm")}
    with pytest.raises(InputError, match="vae_mixture"):
        evaluate(points_run, subjects=["mixture"])


def test_numbers_of_numpy_and_no_trace_in_the_process(points_run: Run) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert {m.n for m in evaluate(points_run, n=np.int64(30), only=["mode_kl"])} == {30}  # type: ignore[arg-type]
        assert torch.get_num_threads() == before + 1  # the recipe asks for one
    finally:
        torch.set_num_threads(before)
    assert json.loads((points_run.path / "measurements.json").read_text())


def test_what_was_measured_is_stored_for_pictures(digits_run: Run, points_run: Run) -> None:
    evaluate(digits_run, n=20, only=["pixels_between_ends"], overrides=["evaluation.shows=[sample, mean]"])
    stored = stored_draws(digits_run, (1, 8, 8))
    assert stored.subjects() == sorted(OF_IMAGES)
    for subject in OF_IMAGES[1:]:
        whole = [stored.load(subject, show) for show in ("sample", "mean")]
        assert [None if x is None else tuple(x.shape[1:]) for x in whole] == [(1, 8, 8)] * 2
    # All that was measured is there, rounded to 8 bits: 40 samples, in two draws of 20.
    x, first = stored.load("vaebm", "sample"), stored.load("vaebm", "sample", 7)
    assert x is not None
    assert first is not None
    assert torch.equal(x[:7], first)
    eps = digits_run.model().draw(40, torch.Generator().manual_seed(0), "vaebm")
    drawn = digits_run.model().render(eps, "sample", torch.Generator())
    assert torch.equal(to_uint8(drawn)[stored_rows(40, (1, 8, 8))], to_uint8(x))
    assert stored.about("vaebm")["sampler"]["kind"] == "langevin"
    # Reconstructions stand beside what they are of.
    real, again = stored.load("held_out"), stored.load("reconstruction", "mean")
    assert real is not None
    assert again is not None
    assert len(real) == len(again) == 200
    evaluate(points_run, only=["mode_kl"], n=30)
    points, truth = stored_draws(points_run, (2,)).load("vaebm", "sample"), stored_draws(points_run, (2,)).load("truth")
    assert points is not None
    assert truth is not None
    assert (tuple(points.shape), tuple(truth.shape)) == ((30, 2), (200, 2))


def test_draws_that_were_not_measured_are_made_for_pictures(digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(digits_run, n=20, only=["pixels_between_ends"], subjects=["vae"])
    drawn: list[str] = []
    real = VAEBM.draw

    def draw(model: Any, n: int, generator: Any, subject: Any, *further: Any, **more: Any) -> Any:
        drawn.append(subject)
        return real(model, n, generator, subject, *further, **more)

    monkeypatch.setattr(VAEBM, "draw", draw)
    monkeypatch.setattr("vaebm.experiment.illustrate.MAX_IMAGES", MIN_IMAGES)
    for _ in range(2):
        stored = illustrate(digits_run).draws
        assert drawn == ["vae_mixture", "start", "vaebm"]
    sizes = {name: len(x) for name in stored.subjects() if (x := stored.load(name, "sample")) is not None}
    few = dict.fromkeys(("reconstruction", "vae_mixture", "start", "vaebm"), MIN_IMAGES)
    assert sizes == {"held_out": 200, "vae": 40, **few}


def test_the_evaluation_is_deterministic(digits_run: Run) -> None:
    names = [*ON_FEATURES, "pixels_between_ends", "class_gap", "elbo"]
    first = evaluate(digits_run, n=20, only=names)
    (digits_run.path / "measurements.json").unlink()
    assert evaluate(digits_run, n=20, only=names) == first


def shows(measurements: list[Measurement]) -> dict[tuple[str, str, str], float]:
    return {(m.name, m.subject, m.settings["show"]): m.value for m in measurements if "show" in m.settings}


def test_both_shows_of_the_same_noise_stand_beside_each_other(digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    real = VAEBM.draw

    def draw(model: Any, n: int, generator: Any, subject: Any, *further: Any, **more: Any) -> Any:
        drawn.append(subject)
        return real(model, n, generator, subject, *further, **more)

    monkeypatch.setattr(VAEBM, "draw", draw)
    only = ["frechet_distance", "precision", "pixels_between_ends", "elbo", "seconds_per_thousand"]
    alone = evaluate(digits_run, n=20, only=only, overrides=["evaluation.shows=[sample]"])
    (digits_run.path / "measurements.json").unlink()
    drawn.clear()
    both = ["evaluation.shows=[mean, sample]"]
    found = evaluate(digits_run, n=20, only=only, overrides=both)
    assert drawn == ["vae", "vae_mixture", "start", "vaebm"]
    assert [m.to_json() for m in found] == saved(digits_run)
    assert len(shows(found)) == 2 * 3 * 5
    assert shows(alone).items() <= shows(found).items()  # with the pixel noise, nothing depends on what else is shown
    assert all(
        shows(found)["pixels_between_ends", subject, "mean"] != shows(found)["pixels_between_ends", subject, "sample"]
        for subject in OF_IMAGES[1:]
    )
    assert [m.name for m in found].count("elbo") == [m.name for m in found].count("seconds_per_thousand") == 1
    # What the recipe shows comes first, and neither replaces the other.
    order = [m.settings["show"] for m in found if "show" in m.settings]
    assert order == sorted(order, reverse=True)
    for overrides in (["evaluation.shows=[sample]"], both, ["show=mean"]):
        assert evaluate(digits_run, n=20, only=only, overrides=overrides) == found
    assert drawn == ["vae", "vae_mixture", "start", "vaebm"]


def test_another_show_is_measured_beside_the_first(points_run: Run) -> None:
    first, second = evaluate(points_run), evaluate(points_run, overrides=["show=mean"])
    assert second[: len(first)] == first
    assert {(m.name, m.subject) for m in second[len(first) :]} == {
        (name, subject)
        for name in ("modes_covered", "within_three_sigma", "mode_kl")
        for subject in ("vae", "vae_mixture", "start", "vaebm")
    }


def test_denoised_is_the_mean_where_there_is_no_energy(digits_run: Run) -> None:
    overrides = ["evaluation.shows=[denoised, mean]"]
    found = shows(evaluate(digits_run, n=20, only=["frechet_distance"], overrides=overrides))
    for subject in ("reconstruction", "vae", "vae_mixture", "vaebm"):
        same = found["frechet_distance", subject, "denoised"] == found["frechet_distance", subject, "mean"]
        assert same == (subject != "vaebm")


def test_shows_by_name_alone(digits_run: Run) -> None:
    assert digits_run.with_overrides(["evaluation.shows=mean"]).evaluation.shows == ["mean"]
    assert digits_run.with_overrides(["evaluation.shows=[mean, mean]"]).evaluation.shows == ["mean"]
    with pytest.raises(InputError, match=r"evaluation\.shows"):
        digits_run.with_overrides(["evaluation.shows=[median]"])


def test_image_statistics_have_a_number_of_their_own(digits_run: Run, photos_run: Run) -> None:
    overrides = ["evaluation={n: 20, statistics_n: 50, draws: 1}"]
    only = ["class_gap", "recall", "pixels_between_ends"]
    found = evaluate(digits_run, overrides=overrides, only=only)
    for m in found:
        assert m.n == m.settings["samples_asked"] == (20 if m.name == "recall" else 50)
        assert ("classifier" in m.settings) == (m.name == "class_gap")
    assert {m.n for m in evaluate(digits_run, n=30, overrides=overrides, only=only)} == {30}
    unlabelled = {m.name for m in evaluate(photos_run, n=4, subjects=["held_out"])}
    assert unlabelled == {"frechet_distance", "pixels_between_ends"}  # too few for neighbours, and no labels


def test_stacked_digits_are_counted_by_their_channels(digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = DigitsSettings().load()

    def stacks(split: Split, n: int) -> Split:
        assert split.labels is not None
        assert isinstance(split.values, torch.Tensor)
        rows = torch.randint(len(split), (n, 1), generator=torch.Generator().manual_seed(0))
        return Split(split.values[rows, 0], split.labels[rows][:, 0], 16, factors=split.labels[rows])

    # Stacks of one, so that the run's model makes them: ten modes instead of a thousand.
    splits = {"train": stacks(digits.train, 500), "test": stacks(digits.test, 200)}
    data = replace(digits, splits=splits, factor_names=("digit",))
    (digits_run.path / DATA).unlink()  # other data, on purpose
    run = Run(digits_run.path, digits_run.recipe, data)
    found = evaluate(run, overrides=["evaluation={statistics_n: 150}"], n=None)
    of = {(m.name, m.subject): m for m in found}
    assert "class_gap" not in {m.name for m in found}
    for subject in OF_IMAGES:
        real = subject in ("held_out", "reconstruction")  # half of the test stacks, since no others were held back
        assert of["modes_covered", subject].n == of["mode_kl", subject].n == (100 if real else 150)
        assert 1 <= of["modes_covered", subject].value <= 10
        assert of["mode_kl", subject].settings["classes"] == 10
    assert (digits_run.path / "model" / "digit_classifier.safetensors").is_file()
    again = Run(digits_run.path, digits_run.recipe, data)
    monkeypatch.setattr(VAEBM, "draw", None)
    assert evaluate(again, overrides=["evaluation={statistics_n: 150}"]) == found
    # Without every class among the training data there is no divergence from them.
    five = replace(data, splits={**data.splits, "train": stacks(digits.train, 5)})
    few = Run(digits_run.path, digits_run.recipe, five)
    with pytest.raises(InputError, match="'mode_kl' for these data"):
        evaluate(few, n=10, subjects=["held_out"], only=["mode_kl"])


def test_chains_of_a_stopped_evaluation_are_not_run_again(digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "CHAINS_AT_ONCE", 16)
    only, subjects = ["frechet_distance"], ["vaebm"]
    whole = evaluate(digits_run, n=20, only=only, subjects=subjects)
    (digits_run.path / "measurements.json").unlink()
    batches: list[int] = []
    real = VAEBM.chains

    def chains(model: VAEBM, eps: torch.Tensor, *further: Any, **keywords: Any) -> Any:
        batches.append(len(eps))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return real(model, eps, *further, **keywords)

    monkeypatch.setattr(VAEBM, "chains", chains)
    with pytest.raises(KeyboardInterrupt):
        evaluate(digits_run, n=20, only=only, subjects=subjects)
    assert evaluate(digits_run, n=20, only=only, subjects=subjects) == whole
    assert batches == [16, 16, 8, 8]
    assert not list((digits_run.path / "samples").glob(".*"))
