"""Columns of tables: what is encoded comes back, on the scale of a standard normal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vaebm.distributions.columns import CategoryColumn, Columns, NumberColumn, as_names, as_numbers
from vaebm.errors import InputError

N = 4000


def draws(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(100.0, 3.0, N),
        "pareto": 1e3 * (1 - rng.random(N)) ** -1.0,
        "both signs": rng.standard_cauchy(N),
        "two modes": np.concatenate([rng.normal(-5, 0.1, N // 2), rng.normal(5, 0.1, N // 2)]),
        "counts": rng.poisson(3.0, N).astype(float),
        "many zeros": np.where(rng.random(N) < 0.6, 0.0, rng.integers(1, 50, N)),
        "truth": (rng.random(N) < 0.2).astype(float),
        "large whole": np.rint(1e6 * rng.random(N)),
        "prices": rng.choice([0.99, 1.99, 4.5], N),
    }[kind]


KINDS = ["normal", "pareto", "both signs", "two modes", "counts", "many zeros", "truth", "large whole", "prices"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_encoded_comes_back(kind: str) -> None:
    values = draws(kind)
    column = NumberColumn.fit("x", values, missing=False)
    back = column.decode(column.encode(values).astype(np.float32).astype(np.float64))
    if column.edges is not None or column.decimals == 0:
        assert np.array_equal(back, values)
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-5 * column.scale)


@pytest.mark.parametrize("kind", KINDS)
def test_a_standard_normal_gives_the_law_of_the_data(kind: str) -> None:
    values = draws(kind)
    column = NumberColumn.fit("x", values, missing=False)
    made = column.decode(np.random.default_rng(1).standard_normal((20 * N, 1)))
    assert stats.ks_2samp(made, values).statistic < 0.025


def test_numbers_that_are_made_have_the_decimals_of_the_data() -> None:
    values = np.round(np.random.default_rng(0).normal(20.0, 5.0, N), 2)
    column = NumberColumn.fit("x", values, missing=False)
    made = column.decode(np.random.default_rng(1).standard_normal((N, 1)))
    assert np.array_equal(made, np.round(made, 2))
    assert NumberColumn.fit("x", values / 3, missing=False).decimals is None


def test_numbers_that_are_names_keep_their_digits() -> None:
    assert as_names(np.array([1234567.0, 0.5, np.nan])).tolist() == ["1234567", "0.5", None]


def test_knots_are_as_many_as_the_law_needs_and_follow_gaps() -> None:
    assert len(NumberColumn.fit("x", draws("normal"), missing=False).values) < 40
    column = NumberColumn.fit("x", draws("two modes"), missing=False)
    made = column.decode(np.random.default_rng(1).standard_normal((20 * N, 1)))
    assert (np.abs(made) < 4).mean() < 0.002


def test_the_map_goes_on_beyond_all_data_and_is_as_heavy_tailed_there() -> None:
    values = draws("pareto")
    column = NumberColumn.fit("x", values, missing=False)
    beyond = values.max() * np.array([1.0, 10.0, 1e4])
    y = column.encode(beyond)[:, 0]
    assert y[0] < y[1] < y[2] < 100
    np.testing.assert_allclose(column.decode(y[:, None]), beyond, rtol=1e-6)


def test_a_column_without_negative_numbers_has_none() -> None:
    column = NumberColumn.fit("x", np.random.default_rng(0).lognormal(0.0, 0.2, N), missing=False)
    low = column.decode(np.array([[-4.0], [-8.0], [-60.0]]))
    assert (low > 0).all()
    signed = NumberColumn.fit("x", draws("both signs"), missing=False)
    assert (signed.decode(np.array([[-4.0]])) < 0).all()


def test_missing_values_are_marked_and_come_back() -> None:
    values = np.where(np.arange(N) % 3 == 0, np.nan, draws("normal"))
    column = NumberColumn.fit("x", values[~np.isnan(values)], missing=True)
    x = column.encode(values)
    assert x.shape == (N, 2)
    assert np.array_equal(x[:, 1], np.isnan(values))
    assert (x[::3, 0] == 0).all()
    np.testing.assert_array_equal(np.isnan(column.decode(x)), np.isnan(values))


def test_categories_come_back_by_name_and_missing_as_missing() -> None:
    column = CategoryColumn(name="c", categories=["a", "b"], missing=True)
    values = np.array(["b", None, "a"], object)
    assert column.encode(values).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert column.decode(column.encode(values)).tolist() == values.tolist()


@pytest.fixture
def columns() -> Columns:
    number = NumberColumn.fit("x", draws("normal"), missing=False)
    return Columns((number, CategoryColumn(name="c", categories=["a", "b"])))


def test_rows_that_do_not_fit_are_named(columns: Columns) -> None:
    x = np.array(["100", "many", "inf", None, "99"], object)
    encoded, bad = columns.encode({"x": x, "c": np.array(["a", "b", "b", "b", "z"], object), "more": x})
    assert set(bad) == {1, 2, 3, 4}
    assert "'many'" in bad[1]
    assert "not finite" in bad[2]
    assert "missing" in bad[3]
    assert "'z'" in bad[4]
    assert np.isfinite(encoded[0]).all()


def test_a_column_that_is_not_there_is_refused(columns: Columns) -> None:
    with pytest.raises(InputError, match="no column c"):
        columns.encode({"x": np.zeros(2)})


def test_text_is_read_as_numbers_only_where_it_is_one() -> None:
    numbers, unread = as_numbers(np.array(["1", "-2e3", None, "1,000"], object))
    assert numbers[:2].tolist() == [1.0, -2000.0]
    assert unread == [3]
