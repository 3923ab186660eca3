"""`vaebm compare-samplers`: its words reach the library, and what comes back is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROWS = [
    {
        "sampler": name,
        "gradients": 200,
        "acceptance": 0.9,
        "ess_per_gradient": None,
        "ess_per_second": None,
        "rhat": 1.2,
        "rhat_between_starts": None,
        "quality": {"frechet_distance": 0.41, "energy_shift": -0.02},
        "quality_stderr": {"frechet_distance": 0.08, "energy_shift": 0.05},
        "settings": {"overrides": []},
    }
    for name in ("hmc", "smc")
]
ROWS[0]["advice"] = "Use HMC."


@pytest.fixture
def comparison(library: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = SimpleNamespace(rows=ROWS)
    for module, names in {
        "comparison.run": {"compare_samplers": library.answer("compare_samplers", found)},
        "report.sampler_page": {
            "write_samplers_page": library.answer("write_samplers_page", Path("out/samplers.html"))
        },
    }.items():
        monkeypatch.setitem(sys.modules, f"vaebm.{module}", SimpleNamespace(**names))  # type: ignore[misc]
    return library


def test_words_reach_the_library(command: Any, comparison: Any) -> None:
    words = ["--out", "out", "--gradients", "50", "--n", "128", "--only", "hmc, smc", "--seed", "3", "--device", "cpu"]
    done = command("compare-samplers", "runs/d", *words, "init.importance_samples=5")
    assert done.status == 0
    assert comparison.called() == ["open", "compare_samplers", "write_samplers_page"]
    arguments, keywords = comparison.arguments("compare_samplers")
    assert arguments == (comparison.run,)
    keywords.pop("progress")
    assert keywords == {
        "out": Path("out"),
        "gradients": 50,
        "n": 128,
        "only": ["hmc", "smc"],
        "seed": 3,
        "overrides": ["init.importance_samples=5"],
        "device": "cpu",
    }


def test_it_says_nothing_of_what_was_not_asked(command: Any, comparison: Any) -> None:
    command("compare-samplers", "runs/d")
    _, keywords = comparison.arguments("compare_samplers")
    assert (keywords["out"], keywords["gradients"], keywords["n"], keywords["only"]) == (None, 200, None, None)


def test_a_table_the_advice_and_the_page(command: Any, comparison: Any) -> None:
    done = command("compare-samplers", "runs/d")
    for said in ("hmc", "smc", "0.41 ± 0.08", "−0.02 ± 0.05", "Use HMC.", "page: out/samplers.html"):
        assert said in done.out


def test_json(command: Any, comparison: Any) -> None:
    assert json.loads(command("compare-samplers", "runs/d", "--json").out) == ROWS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gradients", "0"], "'0' is not a whole number of at least 1"),
        (["--n", "10"], "'10' is not a whole number of at least 64"),
        (["--gradient", "5"], "--gradients"),
    ],
)
def test_wrong_words(words: list[str], said: str, command: Any, comparison: Any) -> None:
    done = command("compare-samplers", "runs/d", *words)
    assert done.status == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_no_run(command: Any, tmp_path: Path) -> None:
    done = command("compare-samplers", str(tmp_path / "none"))
    assert done.status == 2
    assert "there is no run" in done.err
    assert len(done.err.splitlines()) == 1


def test_interrupted(command: Any, comparison: Any) -> None:
    comparison.failure = KeyboardInterrupt()
    done = command("compare-samplers", "runs/d")
    assert done.status == 130
    assert "run the same command again" in done.err
