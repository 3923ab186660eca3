"""Each verb hands its words to the library and prints what comes back; the library itself is stood in for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vaebm import __version__


def test_train_then_measures_and_reports(command: Any, library: Any) -> None:
    done = command("train", "digits", "--out", "runs/d", "seed=1", "energy_stage.learning_rate=1e-4")
    assert done.status == 0
    assert library.called() == ["train", "evaluate", "write_report", "measurements_table"]
    arguments, keywords = library.arguments("train")
    assert arguments == ("digits", Path("runs/d"))
    assert keywords["overrides"] == ["seed=1", "energy_stage.learning_rate=1e-4"]
    assert done.out.splitlines() == ["the table", f"report: {library.run.path / 'report.html'}"]


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1", "digits", "--device", "cpu"],
        ["digits", "--device", "cpu", "seed=1"],
        ["--device", "cpu", "digits", "seed=1"],
    ],
)
def test_the_order_of_words_does_not_matter(words: list[str], command: Any, library: Any) -> None:
    assert command("train", *words).status == 0
    arguments, keywords = library.arguments("train")
    assert arguments == ("digits", None)
    assert keywords["overrides"] == ["seed=1"]
    assert keywords["device"] == "cpu"


def test_a_folder_may_have_an_equals_sign_in_its_name(command: Any, library: Any, tmp_path: Path) -> None:
    (tmp_path / "size=32").mkdir()
    assert command("train", "size=32").status == 0
    assert library.arguments("train")[0][0] == "size=32"


def test_train_can_stop_after_training(command: Any, library: Any) -> None:
    done = command("train", "digits", "--only-train")
    assert library.called() == ["train"]
    assert done.out == f"{library.run.path}\n"


def test_only_the_first_of_several_processes_measures(
    command: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    done = command("train", "digits")
    assert (done.status, done.out, library.called()) == (0, "", ["train"])


def test_train_prints_json(command: Any, library: Any) -> None:
    done = command("train", "digits", "--json")
    assert json.loads(done.out) == [measurement.to_json() for measurement in library.measurements]


def test_sample(command: Any, library: Any) -> None:
    words = ["sample", "runs/d", "--n", "64", "--out", "x.png", "--subject", "vae", "--show", "mean", "--seed", "3"]
    done = command(*words, "sampler.steps=10")
    assert done.out == "x.png\n"
    assert library.arguments("open")[0] == ("runs/d",)
    arguments, keywords = library.arguments("write_samples")
    assert arguments == (library.run, 64, Path("x.png"))
    assert {name: keywords[name] for name in ("subject", "show", "seed", "overrides")} == {
        "subject": "vae",
        "show": "mean",
        "seed": 3,
        "overrides": ["sampler.steps=10"],
    }


def test_sample_says_nothing_of_what_was_not_asked(command: Any, library: Any) -> None:
    command("sample", "runs/d", "--n", "1", "--out", "x.npz")
    _, keywords = library.arguments("write_samples")
    assert {name: keywords[name] for name in ("subject", "show", "seed", "overrides", "device")} == {
        "subject": None,
        "show": None,
        "seed": 0,
        "overrides": [],
        "device": None,
    }


def test_evaluate(command: Any, library: Any) -> None:
    done = command("evaluate", "runs/d", "--only", "frechet_distance, precision", "--n", "360")
    assert done.out == "the table\n"
    _, keywords = library.arguments("evaluate")
    assert keywords["only"] == ["frechet_distance", "precision"]
    assert keywords["n"] == 360


def test_evaluate_prints_json(command: Any, library: Any) -> None:
    done = command("evaluate", "runs/d", "--json")
    assert json.loads(done.out)[0]["name"] == "frechet_distance"
    assert library.arguments("evaluate")[1]["only"] is None


def test_report(command: Any, library: Any) -> None:
    assert command("report", "runs/d").out == f"{library.run.path / 'report.html'}\n"


def test_inspect_a_recipe(command: Any, library: Any) -> None:
    assert command("inspect", "digits", "seed=2").out == "two\nlines\n"
    assert library.arguments("planned")[0][:3] == ("digits", ["seed=2"], None)
    assert json.loads(command("inspect", "digits", "--json").out) == {"parameters": 12}


def test_inspect_a_run(command: Any, library: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "recipe.yaml").touch()
    assert command("inspect", "d").status == 0
    assert library.called() == ["open", "inspect_run"]
    done = command("inspect", "d", "seed=1")
    assert done.status == 2
    assert "seed=1 cannot be applied: a run keeps the recipe it was trained by" in done.err


def test_recipes(command: Any, library: Any) -> None:
    assert command("recipes").out.splitlines() == ["digits  8x8 digits", "g       2-D"]
    assert json.loads(command("recipes", "--json").out)[1] == {"name": "g", "summary": "2-D"}


def test_quiet(command: Any, library: Any) -> None:
    assert command("train", "digits", "--quiet").err == ""
    progress = library.arguments("train")[1]["progress"]
    progress.say("a sentence")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(words: list[str], command: Any) -> None:
    done = command(*words)
    assert done.status == 0
    for verb in ("train", "sample", "evaluate", "report", "inspect", "recipes"):
        assert verb in done.out


def test_version(command: Any) -> None:
    assert command("--version").out == f"vaebm {__version__}\n"
