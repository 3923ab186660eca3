"""The page opens offline, explains every picture, and tells the story of every kind of run there is."""

from __future__ import annotations

import html
import re
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vaebm.errors import InputError
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.report import densities, exhibits
from vaebm.report.page import write_report

MakeRun = Callable[..., Run]
MAX_PAGE = 5_000_000


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densities, "X_POINTS", 81)
    monkeypatch.setattr(densities, "LATENT_POINTS", 41)
    monkeypatch.setattr(exhibits, "MAX_IMAGES", 48)
    monkeypatch.setattr(exhibits, "POINT_CHAINS", 300)


def page_of(run: Run) -> str:
    """The written page, after what holds for every page was checked."""
    path = write_report(run)
    assert path == run.path / "report.html"
    page = path.read_text()
    assert len(page) < MAX_PAGE
    _check_self_contained(page)
    _check_explained(page)
    assert "nan" not in re.sub(r"base64,[^\"')]*", "", page).lower().split()
    return page


def words_of(page: str) -> str:
    """What a reader sees, with single spaces."""
    page = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).replace("\u00a0", " ").split())


def _check_self_contained(page: str) -> None:
    pictures = re.findall(r"data:image/(png|svg\+xml);base64,([^\"')]+)", page)
    assert pictures
    rest = re.sub(r"data:image/[^\"')]+", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|<link(?! rel=\"icon\")|<iframe|<object", rest)
    assert set(re.findall(r"src=\"([^\"]*)\"", rest)) <= {""}
    for kind, encoded in pictures:
        picture = b64decode(encoded)
        if kind == "png":
            Image.open(BytesIO(picture)).verify()
        else:
            drawing = picture.decode()
            assert drawing.startswith("<svg")
            assert not re.search(r"https?:", re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", drawing))


def _check_explained(page: str) -> None:
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert figures
    for figure in figures:
        caption = re.search(r"<figcaption>(.+?)</figcaption>", figure, re.DOTALL)
        assert caption, figure[:80]
        assert caption[1].strip().endswith("."), caption[1]
        assert re.search(r"(alt|aria-label)=\"[^\"]+\"", figure)
    anchors = set(re.findall(r"href=\"#([^\"]+)\"", page))
    assert anchors == set(re.findall(r"<section id=\"([^\"]+)\"", page))


def test_digits(make_run: MakeRun, image_measurements: Callable[..., list[Measurement]]) -> None:
    run = make_run("digits")
    run.save_measurements(image_measurements())
    page = page_of(run)
    words = words_of(page)
    assert "The energy made the samples better" in words
    assert "1,797 handwritten digits" in words
    for subject in ("held-out data", "VAE", "VAE + code mixture", "VAEBM", "reconstructions"):
        assert subject in words
    assert "Each is where the chain ends that began at the image in the same place beside it." in words
    assert "started from the code mixture and took 6 steps of Langevin" in words
    assert 'class="film"' in page
    assert "stage ratio began, of 50 iterations" in words
    assert "kind: censored" in words  # the recipe
    for name in ("comparison.png", "chains.png"):
        with Image.open(run.path / "samples" / name) as picture:
            assert picture.width > 400


def test_points(make_run: MakeRun, point_measurements: list[Measurement]) -> None:
    run = make_run("gaussians25")
    run.save_measurements(point_measurements)
    words = words_of(page_of(run))
    assert "99.9% of the way to the truth" in words
    assert "Log-likelihood −2.651 ± 0.007 nats" in words  # measured
    assert re.search(r"Log-likelihood −\d+\.\d+ ± \d+\.\d+ nats\. The same decoder", words)  # computed for the page
    assert "log-density of the VAE less that of the VAEBM" in words
    assert "are within 3 σ of a mode" in words
    assert "warm-up" in words
    assert (run.path / "samples" / "comparison.png").stat().st_size > 1000


def test_colour_images_that_are_not_square(make_run: MakeRun, colour_folder: Path) -> None:
    small = ["vae={kind: conv, latent_dim: 3, widths: [4, 4]}", "energy.image={kind: residual, stem: 4, widths: [4]}"]
    run = make_run("folder", [f"data.root={colour_folder}", *small, "sampler.steps=3", "energy.image.halve=[]"])
    assert run.data().shape == (3, 12, 20)
    words = words_of(page_of(run))
    assert "24 images" in words
    assert "Nothing is measured yet. vaebm evaluate" in words
    assert "What the energy added is not measured yet" in words


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["energy.image=null"], "The energy is only of the codes (energy.image is null)"),
        (["energy.image=null", "energy.latent=null"], "The energy is absent from this recipe"),
        (["energy.image=null", "vae.likelihood={kind: bernoulli}"], "bernoulli"),
        (["energy.latent=null"], "started from the VAE's prior"),
        (["init.importance_samples=2"], "started from draws among which the energy on x chose"),
        (["energy.latent={kind: correction, hidden: [8]}"], "started from codes that follow the energy on them"),
        (
            ["energy.latent={kind: flow, width: 8}", "latent_step_scale=0"],
            "started from codes that follow the energy on them",
        ),
        (["latent_step_scale=0"], "in the space of the pixel noise (64 dimensions); codes stay where they are"),
        (["show=denoised"], "denoised: the estimate"),
        (["show=mean", "sampler={kind: mala, steps: 4}"], "of the moves were accepted"),
    ],
)
def test_variants_of_the_model(make_run: MakeRun, overrides: list[str], said: str) -> None:
    assert said in words_of(page_of(make_run("digits", overrides)))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["vae.latent_dim=3"], "exact densities need points in the plane"),
        (
            ["latent_step_scale=0", "init.importance_samples=1"],
            "exact densities are of h(x, z), and samples whose chains",
        ),
    ],
)
def test_points_without_exact_densities(make_run: MakeRun, overrides: list[str], reason: str) -> None:
    run = make_run("gaussians25", overrides)
    words = words_of(page_of(run))
    assert f"There are no maps of densities: {reason}" in words
    assert (run.path / "samples" / "comparison.png").exists()


def test_a_diverged_run_shows_its_last_good_model(make_run: MakeRun, log: list[dict[str, Any]]) -> None:
    rows = [*log[:-1], {"event": "diverged", "message": "training diverged: the energy gap is 300 nats"}]
    words = words_of(page_of(make_run("digits", rows=rows)))
    assert "This run diverged, and the page shows the last good model." in words
    assert "the energy gap is 300 nats" in words


def test_an_unfinished_run_without_figures(make_run: MakeRun) -> None:
    words = words_of(page_of(make_run("digits", rows=[])))
    assert "Training has not come to its end" in words
    assert "The run has no figures of its training" in words
    assert "The run has no events" in words


def test_a_model_that_is_not_finite_is_told_and_not_hidden(make_run: MakeRun) -> None:
    run = make_run("digits")
    path = run.path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["energy_net.image.out.weight"].fill_(torch.nan)
    save_file(weights, path)
    words = words_of(page_of(run))
    assert "its chains could not run: the log-density is not finite at the start" in words
    assert "The energy is not finite for 100.0% of held-out data" in words
    assert not (run.path / "samples" / "chains.png").exists()


def test_a_run_without_a_model_says_what_to_do(make_run: MakeRun) -> None:
    run = make_run("digits")
    (run.path / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no model yet"):
        write_report(run)


def test_what_comes_from_a_recipe_is_escaped(make_run: MakeRun) -> None:
    page = page_of(make_run("digits", ["summary='<script>alert(1)</script>'"]))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
