"""Report data: a run as a report reads it. Nothing here or above is computed by a model.

The samples are those that were measured (evaluation/stored_draws.py); chains and densities were recorded once.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.metric import quantity
from vaebm.experiment.illustrate import Illustrations
from vaebm.experiment.run_directory import Run
from vaebm.metrics.measurement import Measurement
from vaebm.report.subjects import FLOORS, RECONSTRUCTION, in_order
from vaebm.report.verdict import NO_ENERGY, Verdict, verdict

SEED = 0  # of the choice of training images


@dataclass(frozen=True, eq=False)
class ReportData:
    """What sections are made from: the run's files, all that was measured, and what was stored of its model."""

    run: Run
    measurements: list[Measurement]
    illustrations: Illustrations

    @cached_property
    def data(self) -> DataSet:
        """The data set."""
        return self.run.data()

    @cached_property
    def verdict(self) -> Verdict:
        """What the energy added."""
        sizes, chains = self.illustrations.model.sizes, self.illustrations.chains
        if chains is None:
            return NO_ENERGY
        by_term = chains.run.start == "mixture" and {"E(x)", "E(z)"} <= sizes.keys()
        names = {"energy": "E(x)", "mixture": "E(z), the code mixture,"} if by_term else {}
        return verdict(self.measurements, **names)

    @cached_property
    def subjects(self) -> list[str]:
        """Whose samples are shown, in order: held-out data or the truth, then what the models make."""
        return in_order(set(self.illustrations.draws.subjects()) - {RECONSTRUCTION})

    @property
    def models(self) -> list[str]:
        """The subjects that a model makes."""
        return [key for key in self.subjects if key not in FLOORS]

    @property
    def origin(self) -> str:
        """Where the samples come from, as a sentence begins with it."""
        if any(m.subject in self.models for m in self.measurements):
            return "These samples are those that were measured"
        return "These samples were drawn for this page, since none are measured yet"

    @property
    def show(self) -> str:
        """What is shown of samples."""
        return str(getattr(self.run.recipe, "show", "sample"))

    def samples(self, subject: str, n: int | None = None, show: str | None = None) -> Tensor | None:
        """The first n stored samples of a subject, (k, *data_shape) in the model's range; None where there are none.

        Without an energy, `denoised` is the mean.
        """
        show, draws = show or self.show, self.illustrations.draws
        found = draws.load(subject, show, n)
        return draws.load(subject, "mean", n) if found is None and show == "denoised" else found

    @cached_property
    def energies(self) -> dict[str, Tensor]:
        """By subject, (k,) energies of the stored samples in the order in which these are stored."""
        found = {key: self.illustrations.draws.energies(key) for key in self.subjects}
        return {key: energies for key, energies in found.items() if energies is not None}

    @cached_property
    def numbers(self) -> dict[str, str]:
        """By subject, the measurement that decided, in words."""
        if self.verdict.name is None:
            return {}
        what = quantity(self.verdict.name)
        return {key: f"{what.title} {what.said(m)}" for key, m in self.verdict.measurements.items()}
