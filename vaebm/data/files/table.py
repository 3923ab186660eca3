"""Tables in files: columns by name, read and written.

    .csv, .tsv    a header, then a row a line; the separator is a comma, a semicolon, a tab or a bar, whichever the
                  header has most of; a field is missing where it is empty or one of `MISSING`
    .parquet      numbers, truth values and text, with `pip install vaebm[tables]`
    .npz          arrays (n,) by name, or one array (n, dim) whose columns are called by their numbers
    .npy          an array (n, dim)

Nothing is guessed of a number: "1,000" and "5 km" are text.
"""

import csv
import io
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebm.data.files.npz import stored_arrays
from vaebm.distributions.columns import Table, Values
from vaebm.errors import InputError
from vaebm.files import write_atomically, write_npz
from vaebm.wording import counted, enumerated

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"})
SEPARATORS = ",;\t|"
TEXT = (".csv", ".tsv")
ENDINGS = (*TEXT, ".parquet", ".npy", ".npz")
PARQUET = "parquet needs pyarrow: pip install vaebm[tables], or save the table as .csv"


def is_table(path: Path) -> bool:
    """Whether a file is a table by its ending; an .npz by what it holds."""
    if not path.is_file() or path.suffix.lower() not in ENDINGS:
        return False
    return path.suffix.lower() != ".npz" or _is_table_of_arrays(path)


def read_table(path: Path) -> dict[str, Values]:
    """The columns of a table in order: float64 with NaN, or objects, text or None, where a value is missing.

    Text that stands for numbers is left as it is.

    Raises:
        InputError: the file is no table, empty, or cannot be read.
    """
    read = {".parquet": _read_parquet, ".npy": _read_npy, ".npz": _read_npz}
    table = read.get(path.suffix.lower(), _read_text)(path)
    if not table or not len(next(iter(table.values()))):
        raise InputError(f"{path} is empty: give a header and at least one row")
    return table


def write_table(path: Path, table: Table) -> None:
    """Writes columns into a .csv, .parquet or .npz.

    Whole numbers are written without a point; what is missing is empty in a .csv, null in a .parquet, and NaN or "" in
    an .npz.

    Raises:
        InputError: a .parquet is asked for, and pyarrow is not there.
    """
    typed = {name: _typed(values) for name, values in table.items()}
    ending = path.suffix.lower()
    if ending == ".npz":
        write_npz(path, {name: _as_array(values) for name, values in typed.items()})
    elif ending == ".parquet":
        _write_parquet(path, typed)
    else:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(typed)
        writer.writerows(zip(*(map(_field, values) for values in typed.values()), strict=True))
        write_atomically(path, text.getvalue().encode())


def _is_table_of_arrays(path: Path) -> bool:
    arrays = stored_arrays(path)
    shapes = [array.shape for array in arrays.values()]
    one = len(shapes) == 1 and len(shapes[0]) == 2
    return one or (len({shape[:1] for shape in shapes}) == 1 and all(len(shape) == 1 for shape in shapes))


def _read_text(path: Path) -> dict[str, Values]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8: save it as such") from None
    header = text.partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as damage:
        raise InputError(f"{path} is no table ({damage}): save it as comma-separated values") from None
    rows = [row for row in rows if row]
    if not rows:
        raise InputError(f"{path} is empty: give a header and at least one row")
    names = [name.strip() for name in rows[0]]
    _check_header(path, names)
    for place, row in enumerate(rows[1:]):
        if len(row) != len(names):
            raise InputError(
                f"{path}: row {place} has {counted(len(row), 'field')}, and the header {len(names)}: correct it"
            )
    fields = [[None if (field := value.strip()) in MISSING else field for value in row] for row in rows[1:]]
    columns = np.array(fields, object).reshape(-1, len(names)).T
    return dict(zip(names, columns, strict=True))


def _check_header(path: Path, names: list[str]) -> None:
    if all(_is_number(name) for name in names):
        raise InputError(f"{path} has no header, its first line holds numbers: put the names of the columns there")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path} has two columns called {enumerated(twice)}: give each a name of its own")
    if "" in names:
        raise InputError(f"{path}: column {names.index('')} has no name: give it one")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> dict[str, Values]:
    check_parquet()
    from pyarrow import ArrowException, parquet, types

    try:
        stored = parquet.read_table(path)
    except (ArrowException, OSError) as damage:
        raise InputError(f"{path} cannot be read as parquet ({type(damage).__name__}): save it again") from None
    columns = {}
    for name, column in zip(stored.column_names, stored.columns, strict=True):
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        values = column.to_pylist()
        if types.is_boolean(kind) or types.is_string(kind) or types.is_large_string(kind):
            columns[name] = np.array([None if value is None else str(value) for value in values], object)
        elif types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            columns[name] = np.array([np.nan if value is None else float(value) for value in values])
        else:
            raise InputError(f"{path}: column {name} is of type {kind}: turn it into numbers or text, or leave it out")
    return columns


def check_parquet() -> None:
    """InputError: pyarrow is not there."""
    if find_spec("pyarrow") is None:
        raise InputError(PARQUET)


def _write_parquet(path: Path, table: Table) -> None:
    check_parquet()
    import pyarrow
    from pyarrow import parquet

    stored = pyarrow.table({name: pyarrow.array(values.tolist()) for name, values in table.items()})
    write_atomically(path, lambda file: parquet.write_table(stored, file))


def _read_npy(path: Path) -> dict[str, Values]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise InputError(f"{path} is truncated or no .npy of numbers: get it whole, then try again") from None
    return _numbered(path, array)


def _read_npz(path: Path) -> dict[str, Values]:
    arrays = {name: array.all() for name, array in stored_arrays(path).items()}
    if len(arrays) == 1 and next(iter(arrays.values())).ndim == 2:
        return _numbered(path, next(iter(arrays.values())))
    if len({array.shape for array in arrays.values()}) != 1 or next(iter(arrays.values())).ndim != 1:
        raise InputError(f"{path} holds no table: give arrays of one length by name, or one of shape (n, dim)")
    return {name: _column(path, name, array) for name, array in arrays.items()}


def _numbered(path: Path, array: NDArray[Any]) -> dict[str, Values]:
    if array.ndim != 2:
        raise InputError(f"{path} holds values of shape {array.shape}: give a table of shape (n, dim)")
    return {str(place): _column(path, str(place), array[:, place]) for place in range(array.shape[1])}


def _column(path: Path, name: str, array: NDArray[Any]) -> Values:
    if array.dtype.kind in "fiu":
        return array.astype(np.float64)
    if array.dtype.kind == "b":
        return np.array([str(value) for value in array.tolist()], object)
    if array.dtype.kind != "U":
        raise InputError(f"{path}: column {name} is of {array.dtype}: give numbers or text")
    return np.array([None if value in MISSING else value for value in array.tolist()], object)


def _typed(values: Values) -> NDArray[Any]:
    """A column as objects: integers, floats, truth values or text, and None where it is missing."""
    if values.dtype.kind == "f":
        known = values[~np.isnan(values)]
        whole = bool((known == np.rint(known)).all())
        plain = [int(value) if whole else value for value in known.tolist()]
        typed = np.full(len(values), None, object)
        typed[~np.isnan(values)] = plain
        return typed
    if set(values.tolist()) <= {"True", "False"}:
        return np.array([value == "True" for value in values.tolist()], object)
    return values


def _as_array(values: NDArray[Any]) -> NDArray[Any]:
    """A typed column for an .npz."""
    plain, numbers = values.tolist(), [value for value in values.tolist() if value is not None]
    if any(isinstance(value, str) for value in numbers):
        return np.array(["" if value is None else value for value in plain])
    return np.array(plain if len(numbers) == len(plain) else [np.nan if value is None else value for value in plain])


def _field(value: object) -> object:
    return "" if value is None else value
