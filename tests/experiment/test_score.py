"""Scores of a run into a file: columns, order, calibration that a run keeps, and runs that have none yet."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import vaebm
from vaebm.cli import main
from vaebm.errors import InputError
from vaebm.experiment.run_directory import Run
from vaebm.experiment.score import write_scores
from vaebm.models.score_density import FILE


def test_columns_of_a_csv_and_an_npz_hold_the_same_bits(digits_run: Run, tmp_path: Path) -> None:
    written = write_scores(digits_run, "test", tmp_path / "deep" / "scores.csv")
    with written.path.open() as file:
        header, *rows = list(csv.reader(file))
    write_scores(digits_run, "test", tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz") as arrays:
        assert list(arrays) == header
        assert header[:4] == ["index", "name", "p_value", "score"]
        assert {"energy", "energy_image", "log_likelihood_lower", "log_density", "kl"} < set(header)
        assert len(rows) == 360
        for k, name in enumerate(header):
            column = [row[k] for row in rows]
            assert arrays[name].tolist() == [type(arrays[name][0].item())(value) for value in column]
    assert len(written.said) == 2
    assert "1/201" in written.said[1]


def test_a_run_without_calibration_gets_one_and_keeps_it(digits_run: Run) -> None:
    assert not (digits_run.path / "model" / FILE).exists()
    x = digits_run.data().test.all()[:5]
    first = vaebm.load(digits_run.path).score(x)
    assert not (digits_run.path / "model" / FILE).exists()
    write_scores(digits_run, "test", digits_run.path / "scores.npz")
    kept = (digits_run.path / "model" / FILE).read_bytes()
    model = vaebm.load(digits_run.path)
    model.held_out = None
    assert torch.equal(model.score(x).score, first.score)
    with np.load(digits_run.path / "scores.npz") as arrays:
        assert arrays["p_value"][:5].tolist() == first.p_value.tolist()
    write_scores(digits_run, "test", digits_run.path / "again.npz", reference="train")
    assert (digits_run.path / "model" / FILE).read_bytes() == kept
    with np.load(digits_run.path / "again.npz") as again:
        assert again["p_value"][:5].tolist() != first.p_value.tolist()


def test_points_and_photographs_are_scored(points_run: Run, photos_run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([[0.5, 0.5], [30.0, -30.0]]))
    write_scores(points_run, tmp_path / "p.npy", tmp_path / "p.npz", only=["kl"])
    with np.load(tmp_path / "p.npz") as arrays:
        assert list(arrays) == ["index", "name", "p_value", "score", "kl"]
        assert arrays["p_value"][1] == 1 / 5001
        assert arrays["score"][1] > arrays["score"][0]
    photos = photos_run.recipe.data.root  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="at least 20"):  # four held-out photographs are too few
        write_scores(photos_run, photos, tmp_path / "q.npz")
    write_scores(photos_run, photos, tmp_path / "q.npz", reference=photos)
    with np.load(tmp_path / "q.npz") as arrays:
        assert arrays["name"].tolist() == [f"{k:02d}.png" for k in range(40)]


def test_a_page_shows_the_strangest_samples_and_why(
    digits_run: Run, points_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = digits_run.data().test.all()[:40]
    np.savez(tmp_path / "x.npz", images=torch.cat([digits, -digits[:1]]).numpy())
    out = ["--out", str(tmp_path / "s.csv"), "--quiet"]
    page = tmp_path / "deep" / "s.html"
    main(["score", str(digits_run.path), "--input", str(tmp_path / "x.npz"), *out, "--page", str(page)])
    assert str(page) in capsys.readouterr().out
    text = page.read_text()
    strangest, ordinary = text.split("The most ordinary</h2>")
    assert text.count("<figure>") == 1 + 12 + 12
    assert "<h4>40</h4>" in strangest.split("The strangest</h2>")[1]
    assert "<h4>40</h4>" not in ordinary
    assert "p = 0.005" in text
    main(["score", str(points_run.path), "--input", "test", *out, "--page", str(page)])
    assert "x = (" in page.read_text()
    assert main(["score", str(points_run.path), "--input", "test", *out, "--page", "s.pdf"]) == 2
    assert "--page s.html" in capsys.readouterr().err


def test_wrong_input_is_one_line_and_leaves_nothing(
    digits_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "few.npy", np.zeros((3, 8, 8), np.uint8))
    run, out = str(digits_run.path), str(tmp_path / "s.csv")
    for words, said in {
        ("--input", "lost", "--out", out): "'lost'",
        ("--input", "test", "--out", str(tmp_path / "s.txt")): ".csv",
        ("--input", "test", "--out", out, "--only", "enrgy"): "did you mean 'energy'",
        ("--input", "test", "--out", out, "--reference", str(tmp_path / "few.npy")): "at least 20",
        ("--input", "test", "--out", out, "seed=1"): "seed=1",
        ("--input", "gaussians", "--out", out): "shape",
    }.items():
        assert main(["score", run, *words, "--quiet", "--device", "cpu"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "few.npy"]
    assert main(["score", run, "--input", str(tmp_path / "few.npy"), "--out", out, "--quiet", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == out
