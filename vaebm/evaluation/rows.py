"""Rows of tables: their columns, correlations and tails against those of held-out rows (metrics/two_samples.py).

two_sample_auroc    how well trees tell rows of a subject from test rows: .5 where they cannot; with at least FEWEST
columns_passed      share of the columns whose test does not tell them from those of the test rows at 1 %
column_gap          the largest distance of a column's law from that of the test rows
correlation_gap     the largest difference of a rank correlation
tail_gap            the largest difference of a 1 % or 99 % quantile, in standard scores

All depend on the number of rows: compare at equal ones, and with held-out rows, the floor. Of several draws the first
is measured. Which columns are the worst stands in the settings, and under the table.
"""

from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.held_out import HeldOut
from vaebm.evaluation.metric import Given, Metric
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement
from vaebm.metrics.two_samples import LEVEL, classifier_auroc, column_tests, correlation_gap, tail_gaps
from vaebm.models import Model

WORST = 3  # columns that are named
FEWEST, MOST = 100, 10_000  # test rows: on fewer, trees learn nothing


class ToldApart(Metric):
    """By gradient-boosted trees; the error is over rows."""

    quantities = (
        Quantity("two_sample_auroc", "told apart by trees", "the AUROC of trees against held-out rows", "", "lower"),
    )
    needs = frozenset({"samples"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return data.columns is not None and len(data.test) >= FEWEST

    def measure(self, given: Given) -> list[Measurement]:
        ours, theirs = given.draws[0].flatten(1).numpy(), _reference(given)
        return [classifier_auroc(ours, theirs.flatten(1).numpy(), given.seed)]


class ColumnsAlike(Metric):
    """By tests of each column."""

    quantities = (
        Quantity("columns_passed", "columns that pass", "the share of columns that pass a test", "%", "higher", 100.0),
        Quantity("column_gap", "worst column", "the largest distance of a column's law", "", "lower"),
        Quantity("correlation_gap", "correlations", "the largest difference of a correlation", "", "lower"),
        Quantity("tail_gap", "tails", "the largest difference of a tail", "standard scores", "lower"),
    )
    needs = frozenset({"samples"})

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        return data.columns is not None

    def measure(self, given: Given) -> list[Measurement]:
        columns = given.data.columns
        assert columns is not None
        ours, theirs = (columns.decode(x.numpy()) for x in (given.draws[0], _reference(given)))
        n, tests = len(given.draws[0]), column_tests(ours, theirs)
        worst = [[test.name, round(test.distance, 4), float(f"{test.p_value:.2g}")] for test in tests[:WORST]]
        passed = sum(test.passes for test in tests)
        about = {"columns": len(tests), "passed": passed, "level": LEVEL, "worst": worst}
        found = [Measurement("columns_passed", passed / len(tests), 0.0, n, about)]
        furthest = max(tests, key=lambda test: test.distance)
        found.append(Measurement("column_gap", furthest.distance, 0.0, n, {"column": furthest.name}))
        if (gap := correlation_gap(ours, theirs)) is not None:
            found.append(Measurement("correlation_gap", gap, 0.0, n))
        if tails := tail_gaps(ours, theirs):
            column = max(tails, key=lambda name: tails[name])
            found.append(Measurement("tail_gap", tails[column], 0.0, n, {"column": column}))
        return found


def _reference(given: Given) -> Tensor:
    """Test rows (n, 1, width)."""
    return HeldOut.of(given.data).reference.all()[:MOST]
