"""The page opens offline, explains every picture, and tells the story of every kind of run there is."""

from __future__ import annotations

import html
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vaebm.errors import InputError
from vaebm.evaluation import chain_record, density_maps
from vaebm.experiment import illustrate
from vaebm.experiment.evaluate import stored_draws
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.report import page as page_module
from vaebm.report.figures import sheet
from vaebm.report.page import write_report
from vaebm.report.section import Section
from vaebm.report.sections import SECTIONS

MakeRun = Callable[..., Run]
MAX_PAGE = 5_000_000


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density_maps, "X_POINTS", 81)
    monkeypatch.setattr(density_maps, "LATENT_POINTS", 41)
    monkeypatch.setattr(chain_record, "POINT_CHAINS", 300)
    monkeypatch.setattr(illustrate, "MAX_IMAGES", 48)
    monkeypatch.setattr(illustrate, "FEW_POINTS", 300)


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


def sections_of(page: str) -> list[str]:
    return re.findall(r"<section id=\"([^\"]+)\"", page)


def test_digits(make_run: MakeRun, image_measurements: Callable[..., list[Measurement]]) -> None:
    run = make_run("digits")
    run.save_measurements(image_measurements())
    page = page_of(run)
    words = words_of(page)
    assert sections_of(page) == ["data", "samples", "chains", "energy", "training", "measurements", "record"]
    assert 'class="verdict better"' in page
    assert "E(x)" in words
    for subject in ("held-out data", "VAE", "VAE + code mixture", "VAEBM", "reconstructions"):
        assert subject in words
    assert words.count("Fréchet distance 19.9 ± 0.8") == 1  # beside its samples
    assert "6 steps of" in words
    assert 'class="animation"' in page
    assert "kind: censored" in words  # the recipe
    for name in ("comparison.png", "chains.png"):
        with Image.open(run.path / "samples" / name) as picture:
            assert picture.width > 400


def test_the_pictures_are_the_samples_that_are_stored(make_run: MakeRun) -> None:
    run = make_run("digits")
    page_of(run)
    stored = stored_draws(run, run.data().shape)
    x = stored.load("vaebm", "sample", 36)
    assert x is not None
    picture = b64encode(sheet.png(sheet.square_sheet(x, 6))).decode()
    assert picture in (run.path / "report.html").read_text()


def test_points(make_run: MakeRun, point_measurements: list[Measurement]) -> None:
    run = make_run("gaussians25")
    run.save_measurements(point_measurements)
    page = page_of(run)
    words = words_of(page)
    assert sections_of(page)[:4] == ["data", "samples", "chains", "energy"]
    assert "99.9%" in words
    assert "Log-likelihood −2.651 ± 0.007 nats" in words  # measured
    assert len(re.findall(r"Log-likelihood −\d+\.\d+ ± \d+\.\d+ nats", words)) == 4  # one computed for the page
    assert "warm-up" in words
    assert (run.path / "samples" / "comparison.png").stat().st_size > 1000


def test_colour_images_that_are_not_square(make_run: MakeRun, colour_folder: Path) -> None:
    small = ["vae={kind: conv, latent_dim: 3, widths: [4, 4]}", "energy.image={kind: residual, stem: 4, widths: [4]}"]
    run = make_run("folder", [f"data.root={colour_folder}", *small, "sampler.steps=3", "energy.image.halve=[]"])
    assert run.data().shape == (3, 12, 20)
    page = page_of(run)
    assert 'class="verdict unknown"' in page
    assert "24 images" in words_of(page)
    assert f"vaebm evaluate {run.path}" in words_of(page)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["energy.image=null"], "reads only codes"),
        (["energy.image=null", "energy.latent=null"], "absent from this recipe"),
        (["energy.image=null", "vae.likelihood={kind: bernoulli}"], "bernoulli"),
        (["energy.latent=null"], "the VAE's prior"),
        (["init.importance_samples=2"], "the energy on x chose"),
        (["energy.latent={kind: correction, hidden: [8]}"], "codes that follow the energy on them"),
        (["energy.latent={kind: flow, width: 8}", "fix_codes=true"], "codes that follow the energy on them"),
        (["fix_codes=true"], "pixel noise (64 dimensions)"),
        (["show=denoised"], "denoised"),
        (["show=mean", "sampler={kind: mala, steps: 4}"], "moves were accepted"),
    ],
)
def test_variants_of_the_model(make_run: MakeRun, overrides: list[str], said: str) -> None:
    assert said in words_of(page_of(make_run("digits", overrides)))


@pytest.mark.parametrize("overrides", [["vae.latent_dim=3"], ["fix_codes=true", "init.importance_samples=1"]])
def test_points_without_exact_densities(make_run: MakeRun, overrides: list[str]) -> None:
    run = make_run("gaussians25", overrides)
    assert "no maps of densities" in words_of(page_of(run))
    assert (run.path / "samples" / "comparison.png").exists()


def test_a_diverged_run_shows_its_last_good_model(make_run: MakeRun, log: list[dict[str, Any]]) -> None:
    rows = [*log[:-1], {"event": "diverged", "message": "training diverged: the energy gap is 300 nats"}]
    page = page_of(make_run("digits", rows=rows))
    assert 'class="warning"' in page
    assert "the energy gap is 300 nats" in words_of(page)


def test_an_unfinished_run_without_figures(make_run: MakeRun) -> None:
    run = make_run("digits", rows=[])
    page = page_of(run)
    assert 'class="warning"' in page
    assert f"vaebm train {run.path}" in words_of(page)
    assert "training" in sections_of(page)


def test_a_model_that_is_not_finite_is_told_and_not_hidden(make_run: MakeRun) -> None:
    run = make_run("digits")
    path = run.path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["energy_net.image.out.weight"].fill_(torch.nan)
    save_file(weights, path)
    words = words_of(page_of(run))
    assert "chains could not run" in words
    assert "100.0% of held-out data" in words
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


def test_a_new_section_is_one_function_and_one_line(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        page_module,
        "SECTIONS",
        [*SECTIONS, lambda report: Section("extra", "Extra", [f"Seed {report.run.recipe.seed}."])],
    )
    page = page_of(make_run("digits"))
    assert "extra" in sections_of(page)
    assert "Seed 0." in words_of(page)


def test_a_report_imports_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    below = ("vaebm.models", "vaebm.sampling", "vaebm.vae", "vaebm.energy")
    for path in Path(page_module.__file__).parent.rglob("*.py"):
        found = re.findall(r"^\s*(?:from|import) (vaebm\.\w+)", path.read_text(), re.MULTILINE)
        assert not set(found) & set(below), path
