"""Tables in files: read and written without loss, what they hold found, and what does not fit refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vaebm.data.files.table import is_table, read_table, write_table
from vaebm.data.inspect import inspect_set
from vaebm.data.sets.table import TableSettings
from vaebm.distributions.columns import CategoryColumn, NumberColumn
from vaebm.errors import InputError

ROWS = 200


def write(path: Path, separator: str = ",", n: int = ROWS, **more: list[object]) -> Path:
    """A table of ages, incomes, towns and notes, with further columns."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[object]] = {
        "age": rng.integers(18, 60, n).tolist(),
        "income": rng.lognormal(10, 1, n).round(2).tolist(),
        "town": rng.choice(["Ulm", "Bonn", ""], n).tolist(),
        "rate": np.where(rng.random(n) < 0.2, "NA", rng.random(n).round(4).astype(str)).tolist(),
        **more,
    }
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_kinds_of_columns_are_found(tmp_path: Path) -> None:
    data = TableSettings(root=str(write(tmp_path / "t.csv"))).load()
    assert data.columns is not None
    age, income, town, rate = data.columns.columns
    assert isinstance(age, NumberColumn)
    assert age.decimals == 0
    assert isinstance(income, NumberColumn)
    assert income.decimals == 2
    assert (town, town.width) == (CategoryColumn(name="town", categories=["Bonn", "Ulm"], missing=True), 3)
    assert rate.missing
    assert data.shape == (1, 1 + 1 + 3 + 2)
    assert {name: len(split) for name, split in data.splits.items()} == {"test": 20, "train": 180}
    assert data.modality.noun == "row"
    assert "rate 17.0% missing" in data.description


def test_a_thousand_rows_have_a_validation_split_and_no_row_is_in_two(tmp_path: Path) -> None:
    data = TableSettings(root=str(write(tmp_path / "t.csv", n=1000))).load()
    assert {name: len(split) for name, split in data.splits.items()} == {"test": 100, "validation": 100, "train": 800}
    again = TableSettings(root=str(tmp_path / "t.csv")).load()
    assert again.fingerprint() == data.fingerprint()
    assert torch.equal(again.train.all(), data.train.all())


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(tmp_path: Path, separator: str) -> None:
    table = read_table(write(tmp_path / "t.csv", separator))
    assert list(table) == ["age", "income", "town", "rate"]
    assert None in table["town"].tolist()


def test_quotes_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufeff"a, b",c\n"x\ny",1\n'.encode())
    table = read_table(tmp_path / "t.csv")
    assert table["a, b"].tolist() == ["x\ny"]


def test_the_target_and_what_is_dropped_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", id=list(range(ROWS)))
    data = TableSettings(root=str(path), target="town", drop=["id"]).load()
    assert data.columns is not None
    assert data.columns.names == ["age", "income", "rate"]
    assert "left out: town, id" in data.description


def test_numbers_that_are_names_are_taken_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", code=[100 + place % 3 for place in range(ROWS)])
    data = TableSettings(root=str(path), categorical="code").load()
    assert data.columns is not None
    assert data.columns.columns[-1] == CategoryColumn(name="code", categories=["100", "101", "102"])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([f"note {place}" for place in range(ROWS)], "text or an identifier (200 different values in 200 rows)"),
        (list(range(7, 7 + ROWS)), "numbers the rows"),
        (["same"] * ROWS, "is constant (same)"),
        ([5] * ROWS, "is constant (5)"),
        ([""] * ROWS, "is empty"),
        ([*[1.5, 2.5] * 99, "many", 3], "'many'"),
        ([1.0, 2.0] * 99 + ["inf", "1"], "not finite"),
        ([f"c{place % 101}" for place in range(ROWS)], "different values"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_by_name(tmp_path: Path, column: list[object], words: str) -> None:
    path = write(tmp_path / "t.csv", odd=column)
    with pytest.raises(InputError) as refusal:
        TableSettings(root=str(path)).load()
    assert words in str(refusal.value)
    assert "data.drop=[odd]" in str(refusal.value)
    TableSettings(root=str(path), drop=["odd"]).load()


def test_all_columns_that_do_not_fit_are_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", id=list(range(ROWS)), year=[2024] * ROWS)
    with pytest.raises(InputError, match=r"data.drop=\[id,year\]"):
        TableSettings(root=str(path)).load()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a,b\n", "empty"),
        ("1,2\n3,4\n", "no header"),
        ("a,a\n1,2\n", "two columns called a"),
        ("a,\n1,2\n", "no name"),
        ("a,b\n1,2\n1\n", "row 1 has 1 field, and the header 2"),
        ("a,b\n1,2\n", "1 row"),
        ('a,b\n"1,2\n', "no table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as refusal:
        TableSettings(root=str(tmp_path / "t.csv")).load()
    assert words in str(refusal.value)


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column label: there are age"):
        TableSettings(root=str(write(tmp_path / "t.csv")), target="label").load()


def test_text_that_is_no_utf8_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a\xff,b\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(InputError, match="no table"):
        TableSettings(root=str(tmp_path / "none.csv")).load()


TABLE = {
    "whole": np.array([1.0, 2.0, np.nan]),
    "real": np.array([0.5, 1e-3, 123456.789]),
    "names": np.array(["a", None, "b, c"], object),
    "truth": np.array(["True", "False", "True"], object),
}


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"t{ending}"
    write_table(path, TABLE)
    assert is_table(path)
    table = read_table(path)
    assert list(table) == list(TABLE)
    assert table["names"].tolist() == ["a", None, "b, c"]
    assert table["truth"].tolist() == ["True", "False", "True"]
    np.testing.assert_array_equal(table["real"].astype(float), TABLE["real"])
    whole = [None if value is None or value != value else float(value) for value in table["whole"].tolist()]
    assert whole == [1.0, 2.0, None]


def test_whole_numbers_have_no_point_and_what_is_missing_is_empty(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", TABLE)
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == [
        "1,0.5,a,True",
        "2,0.001,,False",
        ',123456.789,"b, c",True',
    ]


def test_parquet_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaebm.data.files.table.find_spec", lambda name: None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    for use in (lambda: read_table(tmp_path / "t.parquet"), lambda: write_table(tmp_path / "u.parquet", TABLE)):
        with pytest.raises(InputError, match=r"pip install vaebm\[tables\]"):
            use()


def test_arrays_are_tables_of_numbered_columns(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((60, 3))
    np.save(tmp_path / "t.npy", values)
    np.savez(tmp_path / "t.npz", points=values)
    for name in ("t.npy", "t.npz"):
        assert is_table(tmp_path / name)
        table = read_table(tmp_path / name)
        assert list(table) == ["0", "1", "2"]
        assert np.array_equal(table["1"], values[:, 1])


def test_images_are_no_table(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=np.zeros((30, 8, 8), np.uint8), labels=np.zeros(30))
    assert not is_table(tmp_path / "images.npz")
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match="shape"):
        read_table(tmp_path / "x.npy")


def test_inspect_says_what_each_column_holds(tmp_path: Path) -> None:
    summary = inspect_set(write(tmp_path / "t.csv"))
    assert summary.count == ROWS
    assert summary.columns["age"].startswith("whole numbers, 18 to 59, median")
    assert "2 categories (Bonn, Ulm)" in summary.columns["town"]
    assert "missing" in summary.columns["rate"]
    assert any(line.split()[0] == "income" for line in summary.lines())
    with pytest.raises(InputError, match="no images"):
        inspect_set(tmp_path / "t.csv", tmp_path / "out.png")
