"""A metric: what it measures, what it needs for that, and of whom. A new one is a class and `register`.

    class Brightness(Metric):
        quantities = (Quantity("brightness", "brightness", "the mean of the pixels", better="held_out"),)
        needs = frozenset({"samples"})

        def measure(self, given): ...

    register(Brightness())

Then `vaebm evaluate --only brightness` finds it, and tables, reports and help list it.

    needs       measured                                        from
    samples     once for each show                              `given.draws`
    features    once for each show and kind of features         `given.rows` against `given.space`
    density     once                                            `given.model`, `given.data`, `given.density`
    codes       once                                            `given.codes`, `given.data.test.factors`
    law         once                                            `given.law`: what the energy adds to the base
    energies    once                                            `given.energies` of the samples, and `given.law`
    time        once                                            `given.seconds`
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.energy_law import EnergyLaw
from vaebm.evaluation.feature_space import AnyClassifier, FeatureSpace
from vaebm.evaluation.quadrature import plane_quadrature
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics import PlaneQuadrature
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model

ROWS_AT_ONCE = 1000  # of data that a model sees together
Need = Literal["samples", "features", "density", "codes", "law", "energies", "time"]


class Given:
    """What a metric may look at, of one subject; what takes long is made when it is first asked for.

    Args:
        subject: whose samples: "held_out", "truth", "reconstruction", or one of the model's subjects.
        data: the data set.
        model: on its device.
        seed: of whatever a metric draws.
        draws: samples (n, *data_shape) in the model's range, on the CPU: independent draws of equal n.
        space: the features to look at, with their reference; None for metrics that need none.
        classifier: makes or reads the recipe's classifier.
        seconds: how long a thousand samples took, where they were drawn.
        energies: (k,) of some of the samples, in nats, where they were drawn and have any.
        law: makes what is known of the model with its energy.
    """

    def __init__(
        self,
        subject: str,
        data: DataSet,
        model: Model,
        seed: int,
        draws: Sequence[Tensor] = (),
        space: FeatureSpace | None = None,
        classifier: Callable[[], AnyClassifier] | None = None,
        seconds: float | None = None,
        energies: Tensor | None = None,
        law: Callable[[], EnergyLaw | None] | None = None,
    ) -> None:
        self.subject, self.data, self.model, self.seed = subject, data, model, seed
        self.draws, self._space, self._classifier, self.seconds = draws, space, classifier, seconds
        self.energies, self._law = energies, law

    @property
    def space(self) -> FeatureSpace:
        assert self._space is not None
        return self._space

    @property
    def classifier(self) -> AnyClassifier:
        assert self._classifier is not None
        return self._classifier()

    @property
    def law(self) -> EnergyLaw | None:
        assert self._law is not None
        return self._law()

    @cached_property
    def rows(self) -> list[Tensor]:
        if self.subject == "held_out":
            return [self.space.floor]
        return [self.space.rows(draw) for draw in self.draws]

    @cached_property
    def density(self) -> PlaneQuadrature:
        """The density of the subject in the plane, by quadrature; only where that is feasible."""
        return plane_quadrature(self.model, with_energy=self.subject == self.model.subjects[0])

    @cached_property
    def codes(self) -> Tensor:
        """Posterior means (n, latent_dim) of all held-out data, on the CPU."""
        with torch.no_grad():
            parts = self.data.test.chunks(ROWS_AT_ONCE)
            return torch.cat([self.model.encode(x.to(self.model.device)).cpu() for x in parts])


class Metric(ABC):
    """The contract.

    Attributes:
        quantities: what it gives, in the order of tables.
        needs: of what it is made.
        fewest: samples below which it says nothing.
        balls: of a metric on features, whether it is against as many real images as there are samples, since it
            depends on how dense either set lies.
    """

    quantities: ClassVar[tuple[Quantity, ...]]
    needs: ClassVar[frozenset[Need]]
    fewest: ClassVar[int] = 2
    balls: ClassVar[bool] = False

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        """Whether it is measured of a subject: of all, where it looks at samples, else of the model."""
        return self.is_shown or subject == model.subjects[0]

    @abstractmethod
    def measure(self, given: Given) -> list[Measurement]:
        """A measurement for each of the quantities; subject and protocol are added to them."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(quantity.name for quantity in self.quantities)

    @property
    def is_shown(self) -> bool:
        """Whether it depends on what of samples is shown."""
        return bool(self.needs & {"samples", "features"})

    @property
    def draws(self) -> bool:
        """Whether samples have to be drawn for it."""
        return self.is_shown or bool(self.needs & {"time", "energies"})


METRICS: list[Metric] = []


def register(metric: Metric) -> None:
    """Makes a metric known, after those that are."""
    METRICS.append(metric)


def all_quantities() -> dict[str, Quantity]:
    """All that can be measured, by name."""
    return {quantity.name: quantity for metric in METRICS for quantity in metric.quantities}


def quantity(name: str) -> Quantity:
    """What is known of a measurement's name; an unknown one is called by its own words."""
    words = name.replace("_", " ")
    return all_quantities().get(name) or Quantity(name, words, f"the {words}")


def is_shown(name: str) -> bool:
    """Whether a measurement of this name depends on what of samples is shown."""
    known = [metric.is_shown for metric in METRICS if name in metric.names]
    return any(known) or not known


def on_features(space: FeatureSpace) -> list[Metric]:
    """The metrics that look at features and have enough images for it: of a handful the Fréchet distance alone."""
    return [metric for metric in METRICS if "features" in metric.needs and space.fewest >= metric.fewest]
