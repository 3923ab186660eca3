"""Samples in files: exactly as many as asked for, with the values that were drawn."""

from __future__ import annotations

import errno
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vaebm import sampling
from vaebm.data.transforms import to_uint8
from vaebm.errors import InputError
from vaebm.experiment import sample
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sample import Unfinished, draw_samples, grid, write_images, write_samples
from vaebm.models import VAEBM
from vaebm.progress import silent


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("n", [1, 2, 7, 1025])
def test_points(n: int, points_run: Run, tmp_path: Path) -> None:
    assert write_samples(points_run, n, tmp_path / "x.npz") == tmp_path / "x.npz"
    points = arrays(tmp_path / "x.npz")["points"]
    assert list(arrays(tmp_path / "x.npz")) == ["points"]
    assert points.shape == (n, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == n


@pytest.mark.parametrize(("fixture", "shape"), [("digits_run", (8, 8, 1)), ("photos_run", (8, 10, 3))])
@pytest.mark.parametrize("n", [1, 5])
def test_images(fixture: str, shape: tuple[int, ...], n: int, request: Any, tmp_path: Path) -> None:
    run = request.getfixturevalue(fixture)
    write_samples(run, n, tmp_path / "x.npz", seed=3)
    assert list(arrays(tmp_path / "x.npz")) == ["images"]
    images = arrays(tmp_path / "x.npz")["images"]
    assert images.shape == (n, *shape)
    assert images.dtype == np.uint8
    # Of the model's own values: white is 255, black 0, in between by rounding.
    drawn = draw_samples(run.model(), n, subject="vaebm", show=None, seed=3, progress=silent())
    expected = ((drawn.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert (images == expected).all()
    assert (images == to_uint8(drawn).permute(0, 2, 3, 1).numpy()).all()

    # PNGs hold the very same values.
    write_samples(run, n, tmp_path / "pictures", seed=3)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"{i:05d}.png" for i in range(n)]
    for name, image in zip(names, images, strict=True):
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert picture.mode == ("L" if shape[-1] == 1 else "RGB")
            assert (np.asarray(picture).reshape(shape) == image).all()

    # So does the grid, one black line between any two.
    write_samples(run, n, tmp_path / "x.png", seed=3)
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    height, width, channels = shape
    with Image.open(tmp_path / "x.png") as picture:
        sheet = np.asarray(picture).reshape(rows * (height + 1) - 1, columns * (width + 1) - 1, channels)
    covered = np.zeros(sheet.shape, bool)
    for i, image in enumerate(images):
        place = np.s_[i // columns * (height + 1) :, i % columns * (width + 1) :]
        assert (sheet[place][:height, :width] == image).all()
        covered[place][:height, :width] = True
    assert (sheet[~covered] == 0).all()


def test_grid_layout() -> None:
    images = np.full((5, 2, 3, 1), 9, np.uint8)
    assert grid(images).shape == (2 * 3 - 1, 3 * 4 - 1, 1)
    assert grid(images, columns=5).shape == (2, 19, 1)
    assert grid(images, columns=1).shape == (14, 3, 1)
    assert grid(images[:1]).shape == (2, 3, 1)
    assert int(grid(images).sum()) == 5 * 6 * 9


@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk_leaves_no_part_of_a_folder(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, original = np.zeros((3, 8, 8, 1), np.uint8), Image.Image.save
    out = tmp_path / "s"
    if is_there:
        out.mkdir()

    def save(picture: Image.Image, path: Path) -> None:
        if path.name == "00002.png":
            raise OSError(errno.ENOSPC, "no space left")
        original(picture, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        with pytest.raises(OSError, match="no space"):
            write_images(images, out)
    assert not list(tmp_path.glob("**/*.png"))
    write_images(images, out)
    assert len(list(out.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_folder_names_have_digits_enough(tmp_path: Path) -> None:
    write_images(np.zeros((12, 1, 1, 1), np.uint8), tmp_path / "a")
    assert (tmp_path / "a" / "00011.png").is_file()


@pytest.mark.parametrize("subject", ["vaebm", "vae", "vae_mixture"])
@pytest.mark.parametrize("show", ["sample", "mean", "denoised"])
def test_the_same_seed_gives_the_same_samples(subject: Any, show: Any, digits_run: Run, tmp_path: Path) -> None:
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        write_samples(digits_run, 6, tmp_path / f"{name}.npz", subject=subject, show=show, seed=seed)
    a, b, c = (arrays(tmp_path / f"{name}.npz")["images"] for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_subjects_and_shows_differ(digits_run: Run, tmp_path: Path) -> None:
    drawn = {
        (subject, show): write_samples(digits_run, 4, tmp_path / f"{subject}{show}.npz", subject=subject, show=show)
        for subject in ("vaebm", "vae", "vae_mixture")
        for show in ("sample", "mean")
    }
    images = [arrays(path)["images"].tobytes() for path in drawn.values()]
    assert len(set(images)) == len(images)


def test_what_is_shown_is_the_recipes_unless_given(digits_run: Run, tmp_path: Path) -> None:
    write_samples(digits_run, 4, tmp_path / "a.npz", overrides=["show=mean"])
    write_samples(digits_run, 4, tmp_path / "b.npz", show="mean")
    write_samples(digits_run, 4, tmp_path / "c.npz")
    a, b, c = (arrays(tmp_path / f"{name}.npz")["images"] for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_the_sampler_can_be_overridden(points_run: Run, tmp_path: Path) -> None:
    overrides = ["sampler.step_size=0.5", "sampler.kind=mala", "sampler.steps=3"]
    write_samples(points_run, 50, tmp_path / "a.npz", overrides=overrides)
    write_samples(points_run, 50, tmp_path / "b.npz", overrides=list(reversed(overrides)))
    write_samples(points_run, 50, tmp_path / "c.npz")
    a, b, c = (arrays(tmp_path / f"{name}.npz")["points"] for name in "abc")
    assert (a == b).all()
    assert (a != c).any()
    with pytest.raises(InputError, match=r"'vae_stage.iterations=5' cannot change a trained run: override"):
        write_samples(points_run, 1, tmp_path / "d.npz", overrides=["vae_stage.iterations=5"])


def test_what_does_not_fit_is_refused_before_anything_is_drawn(
    points_run: Run, digits_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "draw_samples", None)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.npz").mkdir()
    refused = [
        (points_run, "x.png", "points go into a file that ends in .npz, as in --out .*x.npz"),
        (points_run, "folder", "points go into a file that ends in .npz"),
        (digits_run, "full", "folder .*full is not empty: give a new or empty one"),
        (digits_run, "file", "file is a file: give the name of a folder, or one that ends in .npz or .png"),
        (digits_run, "folder.npz", "is a directory: give a file name"),
        (digits_run, "x.jpg", "samples are written as .npz, .png or into a folder"),
    ]
    for run, name, sentence in refused:
        with pytest.raises(InputError, match=sentence):
            write_samples(run, 4, tmp_path / name)
    for n in (0, -1):
        with pytest.raises(InputError, match="n is"):
            write_samples(digits_run, n, tmp_path / "x.npz")
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_an_empty_folder_and_an_old_file_are_used(digits_run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_samples(digits_run, 2, tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 2
    for name in ("x.npz", "x.png"):
        (tmp_path / name).write_text("old")
        write_samples(digits_run, 2, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10
    write_samples(digits_run, 2, tmp_path / "new" / "deep" / "x.npz")
    assert (tmp_path / "new" / "deep" / "x.npz").is_file()


def test_a_failure_leaves_the_old_file(digits_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.npz").write_text("old")

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_samples(digits_run, 2, tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_text() == "old"


def test_an_interrupted_sampling_goes_on(points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_samples(points_run, 2100, tmp_path / "whole.npz")
    chains, calls = VAEBM.chains, 0

    def stopped(self: VAEBM, *arguments: Any, **options: Any) -> sampling.Chains:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return chains(self, *arguments, **options)

    monkeypatch.setattr(VAEBM, "chains", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_samples(points_run, 2100, tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()
    write_samples(points_run, 2100, tmp_path / "x.npz")
    assert calls == 4  # the last of three batches
    assert (arrays(tmp_path / "x.npz")["points"] == arrays(tmp_path / "whole.npz")["points"]).all()
    assert sorted(path.name for path in tmp_path.iterdir() if "npz" in path.name) == ["whole.npz", "x.npz"]


def test_what_was_finished_for_another_request_is_not_taken(points_run: Run, tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path / "x.npz", {"seed": 1})
    generator = torch.Generator().manual_seed(0)
    unfinished.keep(0, torch.zeros(1024, 4), generator)
    torch.rand(3, generator=generator)
    unfinished.keep(1, torch.ones(1024, 4), generator)
    fresh = torch.Generator().manual_seed(5)
    assert [float(eps.mean()) for eps in unfinished.load(fresh)] == [0.0, 1.0]
    assert torch.equal(fresh.get_state(), generator.get_state())
    (unfinished.folder / "00001.safetensors").write_bytes(b"half")
    assert len(unfinished.load(fresh)) == 1
    assert Unfinished(tmp_path / "x.npz", {"seed": 2}).load(fresh) == []
    assert not unfinished.folder.exists()


@pytest.mark.parametrize(("subject", "work"), [("vaebm", 3 * 1030), ("vae", 1030)])
def test_progress_counts_all_the_work(points_run: Run, subject: Any, work: int) -> None:
    """Gradients, of the start and of each step, or samples where no chain is run."""
    counted: list[int] = []
    said: list[str] = []

    class Counting:
        def advance(self, n: int = 1, **figures: Any) -> None:
            counted.append(n)

    class Counter:
        def task(self, name: str, total: int, unit: str, done: int = 0) -> Any:
            assert total == work
            return nullcontext(Counting())

        say = staticmethod(said.append)

    draw_samples(points_run.model(), 1030, subject=subject, show=None, seed=0, progress=Counter())
    assert sum(counted) == work
    assert len(said) == (subject == "vaebm")  # what it will cost


def test_ctrl_c_stops_chains_between_their_steps(points_run: Run) -> None:
    model = points_run.model()
    generator = torch.Generator().manual_seed(0)

    def interrupt(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.chains(model.start(4, generator), generator, progress=interrupt)


class Heard:
    """Progress that only listens."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, name: str, total: int, unit: str, done: int = 0) -> Any:
        return silent().task(name, total, unit)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("step_size", "words"), [("1e30", "7 of 7 chains met values that are not finite"), ("30", "0 % would be accepted")]
)
def test_steps_that_are_too_large_are_named(points_run: Run, tmp_path: Path, step_size: str, words: str) -> None:
    heard = Heard()
    overrides = ["sampler.kind=langevin", f"sampler.step_size={step_size}", "sampler.steps=5"]
    write_samples(points_run, 7, tmp_path / "x.npz", overrides=overrides, progress=heard)
    (line,) = [line for line in heard.lines if "step size" in line]
    assert words in line
    assert "sampler.step_size" in line
    assert "sampler.kind=mala" in line
    heard.lines.clear()
    write_samples(points_run, 7, tmp_path / "y.npz", progress=heard)
    assert not any("step size" in line for line in heard.lines)


COSTLY = ["sampler.kind=adjusted_mclmc", "sampler.steps=400", "sampler.warmup=400"]


@pytest.mark.parametrize("kind", sampling.KERNELS)
def test_a_sample_costs_no_more_gradients_than_asked(
    kind: str, points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the kernel's trajectories are; and what it will cost is said before it starts."""
    spent: list[int] = []
    chains = VAEBM.chains

    def counted(self: VAEBM, *arguments: Any, **options: Any) -> sampling.Chains:
        run = chains(self, *arguments, **options)
        spent.append(int(run.gradients.max()))
        return run

    monkeypatch.setattr(VAEBM, "chains", counted)
    overrides = [f"sampler.kind={kind}", "sampler.steps=400", "sampler.warmup=400"]
    heard = Heard()
    write_samples(points_run, 5, tmp_path / "x.npz", gradients=60, overrides=overrides, progress=heard)
    assert 20 <= spent[0] <= 60
    assert "60 gradients" in heard.lines[0]


def test_samplers_with_trajectories_are_bounded_unless_asked_for_more(points_run: Run, tmp_path: Path) -> None:
    heard = Heard()
    for gradients in (None, 900):
        write_samples(points_run, 5, tmp_path / "x.npz", gradients=gradients, overrides=COSTLY, progress=heard)
    default, more = (int(line.split(" gradients")[0].split()[-1].replace(",", "")) for line in heard.lines[:2])
    assert default <= 1000
    assert more == 900


def test_a_budget_is_part_of_what_is_asked_for(points_run: Run, tmp_path: Path) -> None:
    few, many = (
        arrays(write_samples(points_run, 20, tmp_path / f"{n}.npz", gradients=n, overrides=COSTLY))["points"]
        for n in (30, 300)
    )
    assert (few != many).any()
    for wrong in (1, 2.5, "many"):
        with pytest.raises(InputError, match="gradients"):
            write_samples(points_run, 2, tmp_path / "x.npz", gradients=wrong)  # type: ignore[arg-type]


# Doors


def test_names_may_be_strings_of_any_kind(
    digits_run: Run, points_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = arrays(write_samples(points_run, 2, "w.npz"))["points"]
    for run, out in ((str(points_run.path), "v.npz"), ("~/points", "~/u.NPZ"), ("points/model", "new/t.npz")):
        written = write_samples(run, 2, out)
        assert written.is_file()
        assert written.resolve().is_relative_to(tmp_path)
        assert (arrays(written)["points"] == expected).all()
    assert not (tmp_path / "~").exists()
    with Image.open(write_samples("digits", 2, "x.PNG")) as picture:
        assert picture.format == "PNG"
    with pytest.raises(InputError, match=r"\.npz"):
        write_samples("points", 2, "x.PNG")


def test_numbers_and_devices_of_other_libraries(points_run: Run, tmp_path: Path) -> None:
    plain = arrays(write_samples(points_run, 2, tmp_path / "a.npz", seed=3))["points"]
    out = tmp_path / "b.npz"
    write_samples(points_run, np.int64(2), out, seed=np.uint32(3), device=torch.device("cpu"))
    assert (arrays(out)["points"] == plain).all()
    for device in ("cuda:99", "tpu", "gpu"):
        with pytest.raises(InputError, match=device):
            write_samples(points_run, 2, out, device=device)
    for wrong in ({"n": 2.0}, {"n": 2, "seed": "x"}):
        with pytest.raises(InputError, match="whole number"):
            write_samples(points_run, out=out, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [{"subject": "mixture"}, {"subject": "truth"}, {"show": "means"}])
def test_choices_that_do_not_exist(points_run: Run, tmp_path: Path, choice: Any) -> None:
    with pytest.raises(InputError, match=next(iter(choice))):
        write_samples(points_run, 2, tmp_path / "x.npz", **choice)
    assert list(tmp_path.glob("*.npz")) == []


def test_samples_need_no_data(photos_run: Run, tmp_path: Path) -> None:
    recipe = (photos_run.path / "recipe.yaml").read_text()
    root = next(line for line in recipe.splitlines() if "root:" in line)
    (photos_run.path / "recipe.yaml").write_text(recipe.replace(root, "  root: /nowhere"))
    assert write_samples(str(photos_run.path), 2, tmp_path / "x.npz").is_file()


def test_in_inference_mode(points_run: Run, tmp_path: Path) -> None:
    expected = arrays(write_samples(points_run, 3, tmp_path / "a.npz"))["points"]
    with torch.inference_mode():
        inside = arrays(write_samples(points_run, 3, tmp_path / "b.npz"))["points"]
    assert (inside == expected).all()
