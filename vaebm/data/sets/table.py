"""A user's own table: rows of numbers and names in a .csv, .parquet, .npy or .npz (data/files/table.py).

    numbers     columns all of whose values are numbers
    categories  other columns, and those that `categorical` names
    held out    the tenth of the rows whose numbers have the smallest SHA-256, 20 at least; of 1,000 or more the next
                tenth for validation, so that it can be measured like samples against the first

How a column is encoded (distributions/columns.py) is found in training rows; which categories there are, and whether
any value is missing, in all of them. Refused in words are a column that is constant, text or an identifier.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from vaebm.data.collection import FEW, HELD_OUT_FRACTION, held_out
from vaebm.data.files.table import read_table
from vaebm.data.settings import DataSettings
from vaebm.data.splits import DataSet, Split
from vaebm.distributions.columns import CategoryColumn, Columns, NumberColumn, Table, Values, as_names, as_numbers
from vaebm.errors import InputError
from vaebm.files import user_path
from vaebm.progress import Progress
from vaebm.wording import counted, enumerated

MIN_ROWS, MIN_TEST = 40, 20
MAX_CATEGORIES = 100
MOST_OFTEN_NEW = 0.5
"""Different names a row, from which a column is text or an identifier."""


class TableSettings(DataSettings):
    """A table of the user's own."""

    kind: Literal["table"] = "table"
    root: str = Field(description="Path of a .csv, .parquet, .npy or .npz.")
    target: str | None = Field(None, description="A column that is left out, such as a label to be found later.")
    drop: list[str] = Field([], description="Further columns that are left out.")
    categorical: list[str] = Field([], description="Columns of numbers that are names, such as codes of places.")

    @field_validator("root")
    @classmethod
    def _absolute(cls, root: str) -> str:
        """A run is read from wherever one is."""
        return str(user_path(root).absolute())

    @field_validator("drop", "categorical", mode="before")
    @classmethod
    def _alone(cls, names: object) -> object:
        """One name, or a list of them."""
        return [names] if isinstance(names, str | int) else names

    def load(self, progress: Progress | None = None) -> DataSet:
        """Reads the table; shape (1, width)."""
        path = user_path(self.root)
        if not path.is_file():
            raise InputError(f"there is no table {path}: check the path")
        table = read_table(path)
        count = len(next(iter(table.values())))
        left_out = [*([] if self.target is None else [self.target]), *self.drop]
        if unknown := [name for name in [*left_out, *self.categorical] if name not in table]:
            raise InputError(f"{path} has no column {enumerated(unknown)}: there are {enumerated(list(table), 8)}")
        table = {name: values for name, values in table.items() if name not in left_out}
        if count < MIN_ROWS:
            raise InputError(f"{path} has {counted(count, 'row')}: give at least {MIN_ROWS}")
        parts = _parts(count)
        columns = fit_columns(path, table, parts["train"], self.categorical)
        x, bad = columns.encode(table)
        if bad:
            raise InputError(f"{path}: row {min(bad)} cannot be used: {bad[min(bad)]}")
        rows = torch.from_numpy(x)[:, None]
        splits = {part: Split(rows[torch.from_numpy(places)]) for part, places in parts.items()}
        return DataSet(path.stem, splits, _description(path, table, columns, parts, left_out), columns=columns)


def fit_columns(path: Path, table: Table, train: np.ndarray, categorical: list[str]) -> Columns:
    """What the columns of a table are.

    Args:
        path: what messages call the table.
        table: all of it.
        train: numbers of the rows for training.
        categorical: columns of numbers that are names.

    Raises:
        InputError: columns that do not fit; all are named.
    """
    found: list[NumberColumn | CategoryColumn] = []
    refused: dict[str, str] = {}
    for name, values in table.items():
        column = _column(name, values, train, name in categorical)
        if isinstance(column, str):
            refused[name] = column
        else:
            found.append(column)
    if refused:
        reasons = "; ".join(f"{name} {reason}" for name, reason in refused.items())
        raise InputError(f"{path}: {reasons}: leave out by data.drop=[{','.join(refused)}]")
    if not found:
        raise InputError(f"{path} has no column left: leave out fewer")
    return Columns(tuple(found))


def _column(name: str, values: Values, train: np.ndarray, is_name: bool) -> NumberColumn | CategoryColumn | str:
    """What a column is, or why it cannot be used."""
    numbers, unread = as_numbers(values)
    if is_name or (unread and len(unread) > len(values) / 2):
        return _names(name, as_names(values))
    if unread:
        some = [repr(values[row]) for row in unread]
        if len(set(some)) <= MAX_CATEGORIES and len(unread) > len(values) / 20:
            return _names(name, as_names(values))
        return f"holds numbers, but {enumerated(some, 2)} is none (row {unread[0]}): correct it, or"
    known = numbers[~np.isnan(numbers)]
    if np.isinf(known).any():
        return f"holds values that are not finite (first in row {np.flatnonzero(np.isinf(numbers))[0]})"
    if len(known) == 0:
        return "is empty"
    if len(known) < len(values) and not len(known[1:]):
        return "is nearly empty"
    if known.min() == known.max():
        return f"is constant ({known[0]:g})"
    steps = np.diff(np.sort(known))
    if len(known) == len(values) and (steps == 1).all():
        return "numbers the rows"
    of_training = numbers[train]
    of_training = of_training[~np.isnan(of_training)]
    if not len(of_training) or of_training.min() == of_training.max():
        return "is constant but for a few rows"
    return NumberColumn.fit(name, of_training, len(known) < len(values))


def _names(name: str, values: Values) -> CategoryColumn | str:
    known = [value for value in values if value is not None]
    categories = sorted(set(known))
    if not categories:
        return "is empty"
    if len(categories) > MOST_OFTEN_NEW * len(known):
        return f"is text or an identifier ({len(categories):,} different values in {len(known):,} rows)"
    if len(categories) > MAX_CATEGORIES:
        return f"has {len(categories):,} categories, more than {MAX_CATEGORIES}"
    if len(categories) == 1 and len(known) == len(values):
        return f"is constant ({categories[0]})"
    return CategoryColumn(name=name, categories=categories, missing=len(known) < len(values))


def _parts(count: int) -> dict[str, np.ndarray]:
    """Numbers of the rows of each split."""
    names = [f"{row:08d}" for row in range(count)]
    fraction = max(HELD_OUT_FRACTION, MIN_TEST / count)
    test = held_out(names, fraction)
    validation = held_out(names, 2 * fraction) - test if count >= FEW else set()
    rows = {"test": test, "validation": validation, "train": set(names) - test - validation}
    return {part: np.array(sorted(map(int, some)), int) for part, some in rows.items() if some}


def _description(path: Path, table: Table, columns: Columns, parts: dict[str, np.ndarray], left_out: list[str]) -> str:
    said = described(table, columns)
    count = sum(map(len, parts.values()))
    numbers = sum(isinstance(column, NumberColumn) for column in columns.columns)
    names = len(columns.columns) - numbers
    missing = [f"{name} {what.rsplit(', ', 1)[1]}" for name, what in said.items() if what.endswith("missing")]
    validation = f"{len(parts['validation']):,} for validation, " if "validation" in parts else ""
    sentences = [
        f"{counted(count, 'row')} of {counted(len(columns.columns), 'column')}: {path}",
        f"{counted(numbers, 'column')} of numbers and {names} of categories, {columns.width} values a row once encoded",
        f"{len(parts['train']):,} for training, {validation}{len(parts['test']):,} held out",
        enumerated(missing, 8) if missing else "nothing is missing",
        *([f"left out: {enumerated(left_out, 8)}"] if left_out else []),
    ]
    return "; ".join(sentences) + "."


def described(table: Table, columns: Columns) -> dict[str, str]:
    """By column, its kind, its values, and how many are missing."""
    said = {}
    for column in columns.columns:
        values = table[column.name]
        if isinstance(column, NumberColumn):
            numbers = as_numbers(values)[0]
            gone = np.isnan(numbers)
            what = "whole numbers" if column.decimals == 0 else "numbers"
            low, middle, high = np.quantile(numbers[~gone], [0.0, 0.5, 1.0])
            words = f"{what}, {low:g} to {high:g}, median {middle:g}"
            if column.edges is not None:
                words += f", {len(column.values)} different"
        else:
            gone = np.array([value is None for value in as_names(values)])
            words = f"{len(column.categories)} categories ({enumerated(column.categories, 4)})"
        said[column.name] = words + (f", {gone.mean():.1%} missing" if gone.any() else "")
    return said
