"""A stage: one part of training, and what every stage works with.

The loop (loop.py) begins it once, steps it `iterations` times and ends it once. Between two steps it tells all that a
checkpoint needs of it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from vaebm.data import Batch, Split
from vaebm.errors import Step
from vaebm.progress import Progress
from vaebm.training.checkpoint import Tree
from vaebm.training.engine import Engine
from vaebm.training.shuffled_sampler import ShuffledSampler


@dataclass
class Training:
    """What every stage works with."""

    model: Any  # a Model; each stage knows of which family
    data: Split
    engine: Engine
    progress: Progress
    seed: int
    validation: Split | None = None
    shuffled_sampler: ShuffledSampler = field(init=False)
    broken_rows: list[int] = field(default_factory=list)  # of data that are not finite, since they were last looked at
    sampler_pace: float = 1.0  # multiplies the sampler's step size; lower after an alarm

    def __post_init__(self) -> None:
        self.shuffled_sampler = ShuffledSampler(len(self.data), self.seed, self.engine.rank, self.engine.world_size)

    def batch(self, size: int) -> Batch:
        """This process's part of the next batch of training data, as models see it, with its labels."""
        indices = self.shuffled_sampler.take(self.engine.per_process(size))
        batch = self.data.batch(indices.to(self.engine.device), self.engine.generator)
        finite = batch.x.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            self.broken_rows += indices[~finite.cpu()].tolist()
        return batch


class Stage(ABC):
    """One part of training."""

    name: str
    iterations: int
    path: str = ""  # of its settings in a recipe
    batch_size: int = 1
    parts: int = 1  # of a batch, that are learned from one after another (memory.py)

    def setting(self, step: Step) -> str:
        """The path of the setting of a step."""
        return f"{self.path}.{'sampler.' if step == 'step_size' else ''}{step}"

    def set_pace(self, pace: float) -> None:  # noqa: B027  # a stage may have no learning rate
        """Multiplies the learning rate that the settings say."""

    def halve(self) -> bool:
        """Learns from half as much at a time from the next step on; False where it cannot."""
        return False

    @abstractmethod
    def begin(self) -> None:
        """Prepares the first step; not called when a checkpoint inside the stage is resumed."""

    @abstractmethod
    def step(self, iteration: int) -> dict[str, float]:
        """One iteration; returns figures for the log and the divergence monitor."""

    @abstractmethod
    def end(self) -> None:
        """Leaves the model as the next stage finds it."""

    def take_best(self, state: Tree) -> None:  # noqa: B027  # most stages measure nothing
        """Gives the model the best weights that a state of the stage knows by a measure of validation data."""

    @abstractmethod
    def state_dict(self) -> Tree:
        """All that is not in the model."""

    @abstractmethod
    def load_state_dict(self, state: Tree) -> None:
        """From a checkpoint."""
