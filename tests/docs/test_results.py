"""The page of results quotes what the files of results hold."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RECORD = {
    "name": "frechet_distance",
    "subject": "vaebm",
    "value": 0.4,
    "stderr": 0.02,
    "n": 360,
    "settings": {"features": "classifier", "show": "sample", "seed": 0, "reference_n": 1437},
    "recipe": "small",
    "seed": 0,
    "seconds": 50.0,
    "hardware": "a processor",
    "command": "vaebm train small seed=0",
    "version": "abc",
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("results_table")


def test_the_page_is_up_to_date(module: ModuleType) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    assert module.fill(page, ROOT / "results") == page, "run `python benchmarks/results.py --docs`"


def row(table: str, title: str, detail: str = "") -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {title}") and detail in line]
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_medians_over_seeds_by_show(module: ModuleType) -> None:
    records = [
        RECORD | {"seed": seed, "value": value, "command": f"vaebm train small seed={seed}", "seconds": 50.0 + seed}
        for seed, value in enumerate((0.4, 0.9, 0.5))
    ]
    means = [r | {"value": r["value"] / 10, "settings": r["settings"] | {"show": "mean"}} for r in records]
    floor = RECORD | {"subject": "held_out", "value": 0.1, "settings": {"features": "classifier"}}
    table = module.table([*records, *means, floor])
    assert table.splitlines()[0] == "| | held-out data | VAEBM |"
    assert row(table, "Fréchet distance ↓", "with pixel noise")[1:] == [
        "0.100\u00a0±\u00a00.020",
        "0.500 (0.400 to 0.900)",
    ]
    assert row(table, "Fréchet distance ↓", "means")[1:] == ["0.100\u00a0±\u00a00.020", "0.050 (0.040 to 0.090)"]
    assert "Median of 3 seeds (0, 1, 2), least and greatest. Training took 50 to 52 s on a processor" in table
    assert "`vaebm train small seed=SEED`" in table


def test_one_seed_is_labelled_so(module: ModuleType) -> None:
    table = module.table([RECORD])
    assert row(table, "Fréchet distance ↓")[1:] == ["0.400\u00a0±\u00a00.020"]
    assert "One seed (0). Training took 50 s" in table


def test_places_are_filled_from_files(module: ModuleType, tmp_path: Path) -> None:
    page = "before\n<!-- results: small -->\nold\n<!-- end -->\nbetween\n<!-- results: other -->\n<!-- end -->\n"
    (tmp_path / "small.json").write_text(json.dumps([RECORD]))
    filled = module.fill(page, tmp_path)
    assert "old" not in filled
    assert module.table([RECORD]) in filled
    assert "Not measured yet: `python benchmarks/results.py other`" in filled
    assert module.fill(filled, tmp_path) == filled
