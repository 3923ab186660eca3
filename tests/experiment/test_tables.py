"""A table from end to end: trained, measured, sampled, scored, reported, from the model's folder alone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vaebm
from vaebm.cli import main
from vaebm.errors import InputError
from vaebm.experiment.evaluate import evaluate
from vaebm.experiment.inspect import inspect_recipe
from vaebm.experiment.run_directory import Run
from vaebm.experiment.sample import write_samples
from vaebm.experiment.score import write_scores
from vaebm.experiment.train import planned, train
from vaebm.progress import silent
from vaebm.report.page import write_report

SMALL = [
    *("vae.hidden=[16]", "vae.latent_dim=3", "energy.image.hidden=[16]", "code_mixture.components=2"),
    *("code_mixture.codes=200", "vae_stage.iterations=60", "energy_stage.phases.ratio.iterations=20"),
    *("sampler.steps=3", "sampler.warmup=2"),
]
ROWS = 1000


def rows(n: int = ROWS, seed: int = 0) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    table = []
    for _ in range(n):
        town = str(rng.choice(["Ulm", "Bonn", "Jena"]))
        table.append(
            {
                "age": int(rng.integers(18, 60)),
                "income": f"{rng.lognormal(10, 1):.2f}",
                "town": town if rng.random() < 0.9 else "",
                "visits": int(rng.poisson(2.0)),
                "rate": f"{rng.normal():.4f}" if rng.random() < 0.8 else "",
                "label": int(town == "Ulm"),
            }
        )
    return table


def write(path: Path, table: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write(folder / "people.csv", rows())
    return train(folder / "people.csv", folder / "run", device="cpu", overrides=[*SMALL, "data.target=label"]).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


def test_sizes_follow_from_the_table(tmp_path: Path) -> None:
    recipe = planned(str(write(tmp_path / "people.csv", rows())), [], None, "cpu", silent())
    assert recipe.vae.latent_dim == 6
    assert 300 < recipe.vae_stage.iterations == recipe.energy_stage.phases["ratio"].iterations < 1000
    few = planned(str(write(tmp_path / "few.csv", rows(60))), [], None, "cpu", silent())
    assert few.vae_stage.iterations == 300
    assert [column.name for column in recipe.vae.likelihood.columns] == list(rows(1)[0])
    assert any("6 columns" in sentence for sentence in inspect_recipe(recipe).sentences)


def test_samples_are_a_table_of_the_same_columns_and_types(run: Run, tmp_path: Path) -> None:
    table = read(write_samples(run, 300, tmp_path / "rows.csv"))
    assert len(table) == 300
    assert list(table[0]) == ["age", "income", "town", "visits", "rate"]
    assert {row["town"] for row in table} == {"Ulm", "Bonn", "Jena", ""}
    assert {int(row["age"]) for row in table} <= set(range(18, 60))
    assert {int(row["visits"]) for row in table} <= set(range(20))
    assert all(float(row["income"]) > 0 for row in table)
    missing = np.mean([row["rate"] == "" for row in table])
    assert 0.02 < missing < 0.6
    again = write_samples(run, 300, tmp_path / "again.csv")
    assert again.read_bytes() == (tmp_path / "rows.csv").read_bytes()
    arrays = np.load(write_samples(run, 20, tmp_path / "rows.npz"))
    assert arrays["age"].dtype.kind == "i"
    assert arrays["town"].dtype.kind == "U"
    assert arrays["rate"].dtype.kind == "f"


def test_a_table_goes_into_no_picture(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.parquet or \.npz"):
        write_samples(run, 2, tmp_path / "rows.png")


def test_the_folder_of_the_model_is_enough(run: Run, tmp_path: Path) -> None:
    model = vaebm.load(shutil.copytree(run.path / "model", tmp_path / "alone"))
    assert model.columns is not None
    table = model.columns.decode(model.sample(50, seed=0).numpy())
    assert list(table) == ["age", "income", "town", "visits", "rate"]
    x, bad = model.columns.encode(table)
    assert not bad
    energy = model.energy(torch.from_numpy(x)[:, None], torch.zeros(50, 3))
    assert energy.isfinite().all()


def test_scores_name_rows_take_columns_in_any_order_and_leave_others_out(run: Run, tmp_path: Path) -> None:
    fresh = [dict(reversed(row.items())) for row in rows(50, seed=1)]
    written = write_scores(run, write(tmp_path / "new.csv", fresh), tmp_path / "scores.csv")
    assert any("label" in sentence for sentence in written.said)
    table = read(written.path)
    assert len(table) == 50
    assert {"log_likelihood_numbers", "log_likelihood_missing", "log_likelihood_categories"} <= set(table[0])
    alone = write_scores(run, write(tmp_path / "one.csv", fresh[7:8]), tmp_path / "one-score.csv")
    assert read(alone.path)[0]["score"] == table[7]["score"]


def test_a_strange_row_has_a_higher_score(run: Run, tmp_path: Path) -> None:
    odd = {**rows(1)[0], "age": 900, "income": "1e12", "visits": 500}
    table = read(write_scores(run, write(tmp_path / "t.csv", [*rows(20, 3), odd]), tmp_path / "s.csv").path)
    scores = [float(row["score"]) for row in table]
    assert max(scores) == scores[-1]
    assert float(table[-1]["p_value"]) < 0.1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"town": "Rome"}, "'Rome', which training did not have"),
        ({"age": "old"}, "'old', no number"),
        ({"age": ""}, "age is missing"),
        ({"income": "inf"}, "not finite"),
    ],
)
def test_rows_that_do_not_fit_are_named_and_left_out_when_asked(
    run: Run, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    first, second, third = rows(3)
    path = write(tmp_path / "bad.csv", [first, {**second, **changed}, third])
    with pytest.raises(InputError, match=words) as refusal:
        write_scores(run, path, tmp_path / "scores.csv")
    assert "1 (" in str(refusal.value)
    assert not (tmp_path / "scores.csv").exists()
    write_scores(run, path, tmp_path / "scores.csv", skip_bad=True)
    assert [row["index"] for row in read(tmp_path / "scores.csv")] == ["0", "2"]


def test_another_table_is_refused(run: Run, tmp_path: Path) -> None:
    lacking = [{"age": row["age"], "label": 1} for row in rows(3)]
    with pytest.raises(InputError, match="no column income, town, visits"):
        write_scores(run, write(tmp_path / "t.csv", lacking), tmp_path / "s.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match="empty"):
        write_scores(run, tmp_path / "empty.csv", tmp_path / "s.csv")
    with pytest.raises(InputError, match="no table"):
        write_scores(run, "digits", tmp_path / "s.csv")


def test_it_is_measured_by_its_columns_and_reported(run: Run) -> None:
    measured = {(m.name, m.subject): m for m in evaluate(run, n=40)}
    for name in ("two_sample_auroc", "columns_passed", "column_gap", "correlation_gap"):
        assert {"held_out", "vae", "vaebm"} <= {subject for known, subject in measured if known == name}
    passed = measured["columns_passed", "vaebm"]
    assert passed.settings["columns"] == 5
    assert len(passed.settings["worst"]) == 3
    page = write_report(run).read_text()
    for words in ("Rank correlations", "heaviest upper tail", "columns of the VAEBM", "Shares of rows"):
        assert words in page


def test_data_that_changed_are_noticed(trained: Path, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(trained, tmp_path / "run"))
    run.with_overrides([f"data.root={write(tmp_path / 'other.csv', rows(seed=9))}"])
    with pytest.raises(InputError, match="not as they were"):
        run.data()


def test_minutes_are_kept(tmp_path: Path) -> None:
    recipe = planned(str(write(tmp_path / "people.csv", rows())), SMALL, 2.0, "cpu", silent())
    assert recipe.minutes == 2.0
    assert recipe.vae_stage.iterations > 60


def test_a_table_of_names_alone_is_a_table(tmp_path: Path) -> None:
    table: list[dict[str, object]] = [{"town": row["town"], "label": f"l{row['label']}"} for row in rows(60)]
    run = train(write(tmp_path / "names.csv", table), tmp_path / "run", device="cpu", overrides=SMALL)
    measured = {m.name for m in evaluate(run, n=20, subjects=["vaebm"])}
    assert "columns_passed" in measured
    assert not measured & {"correlation_gap", "tail_gap", "two_sample_auroc"}  # no numbers, and too few rows
    assert {row["label"] for row in read(write_samples(run, 30, tmp_path / "rows.csv"))} <= {"l0", "l1"}
    assert write_report(run).is_file()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["vae.likelihood={kind: gaussian}"], "vae.likelihood.kind=mixed"),
        (["vae={kind: conv}"], "needs images"),
        (["data.target=nothing"], "no column nothing"),
    ],
)
def test_what_a_table_cannot_have_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    path = write(tmp_path / "people.csv", rows())
    with pytest.raises(InputError, match=words):
        train(path, tmp_path / "run", device="cpu", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_wrong_input_ends_with_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "people.csv", [{**row, "id": place} for place, row in enumerate(rows())])
    assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 2
    err = capfd.readouterr().err
    assert "id numbers the rows" in err
    assert err.count("\n") == 1
    assert main(["train", "table", "--out", str(tmp_path / "run")]) == 2
    assert "data.root" in capfd.readouterr().err
    assert main(["data", "inspect", str(write(tmp_path / "good.csv", rows()))]) == 0
    assert "3 categories (Bonn, Jena, Ulm)" in capfd.readouterr().out
