"""The loop: stages in order, each an iteration at a time, logged, monitored, checkpointed and stoppable.

A stage is begun once, stepped `iterations` times and ended once. A checkpoint between two steps holds the model, the
stage's own state (optimizer, averages, chains), the generator, the place in the data's order, the log's length and
the position, so nothing that happens after a resume depends on whether there was an interruption, or when a checkpoint
was taken.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from vaebm.data import Batch, Split
from vaebm.errors import Diverged, Preempted
from vaebm.progress import Progress
from vaebm.registry import Settings
from vaebm.signals import GRACE, Stop, listening
from vaebm.training.checkpoint import Checkpoints, Tree
from vaebm.training.engine import Engine
from vaebm.training.log import MetricsLog
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.shuffled_sampler import ShuffledSampler


class CheckpointSettings(Settings):
    """When a run is saved."""

    every_seconds: float = Field(30.0, ge=0, description="seconds between two checkpoints; 0 for every iteration")
    keep: int = Field(3, ge=1, description="newest checkpoints that stay on disk")


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

    def __post_init__(self) -> None:
        self.shuffled_sampler = ShuffledSampler(len(self.data), self.seed, self.engine.rank, self.engine.world_size)

    def batch(self, size: int) -> Batch:
        """This process's part of the next batch of training data, as models see it, with its labels."""
        indices = self.shuffled_sampler.take(self.engine.per_process(size))
        return self.data.batch(indices.to(self.engine.device), self.engine.generator)


class Stage(ABC):
    """One part of training."""

    name: str
    iterations: int

    @abstractmethod
    def begin(self) -> None:
        """Prepares the first step; not called when a checkpoint inside the stage is resumed."""

    @abstractmethod
    def step(self, iteration: int) -> dict[str, float]:
        """One iteration; returns figures for the log and the divergence monitor."""

    @abstractmethod
    def end(self) -> None:
        """Leaves the model as the next stage finds it."""

    @abstractmethod
    def state_dict(self) -> Tree:
        """All that is not in the model."""

    @abstractmethod
    def load_state_dict(self, state: Tree) -> None:
        """From a checkpoint."""


class Loop:
    """Runs stages; `run` may be called again after any interruption, in this process or another."""

    def __init__(
        self,
        training: Training,
        stages: Sequence[Stage],
        checkpoints: Checkpoints,
        log: MetricsLog,
        monitor: DivergenceMonitor,
        every_seconds: float,
    ) -> None:
        self.training, self.stages = training, stages
        self.checkpoints, self.log, self.monitor = checkpoints, log, monitor
        self.every_seconds = every_seconds
        self._stage, self._iteration, self._begun = 0, 0, False
        self._total, self.seconds = 0, 0.0  # iterations, and their time in all sessions together

    def run(self) -> None:
        """Goes on from the newest checkpoint, or from the beginning, to the end.

        Raises:
            Diverged: the divergence monitor stopped it; the model is that of the last good checkpoint.
            Preempted, Interrupted: a signal came; all is saved.
        """
        with listening(GRACE) as stop:
            self._resume()
            try:
                while self._stage < len(self.stages):
                    self._run_stage(self.stages[self._stage], stop)
            except Diverged as reason:
                self._return_to_last_good(reason)
                raise

    def _run_stage(self, stage: Stage, stop: Stop) -> None:
        engine, started = self.training.engine, time.perf_counter()
        if not self._begun:
            stage.begin()
            self.monitor.begin_stage()
            self._begun = True
            engine.synchronise(self.training.model)
            self.log.write(event="stage", stage=stage.name, iterations=stage.iterations)
            self._save()
        saved = time.perf_counter()
        with self.training.progress.task(stage.name, stage.iterations, "iterations", self._iteration) as task:
            while self._iteration < stage.iterations:
                figures = stage.step(self._iteration)
                self._check(f"{stage.name}, iteration {self._iteration}", figures)
                self._iteration += 1
                self._total += 1
                self.log.add(figures)
                task.advance(1, **figures)
                if self._iteration % self.log.every == 0 or self._iteration == stage.iterations:
                    row = engine.average(self.log.means())
                    seconds = self.seconds + time.perf_counter() - started
                    self.log.write(stage=stage.name, iteration=self._iteration, seconds=round(seconds, 2), **row)
                    tracked = {f"{stage.name}/{name}": value for name, value in row.items()}
                    engine.track(tracked, self._total, self.training.progress)
                if engine.any(stop.reason is not None):
                    stop.settle()
                    self.seconds += time.perf_counter() - started
                    self._save()
                    reason = stop.reason or Preempted
                    raise reason(
                        f"stopped in {stage.name} at iteration {self._iteration} of {stage.iterations}; all is saved:"
                        " run the same command again to go on"
                    )
                if engine.any(time.perf_counter() - saved > self.every_seconds):
                    self._save(started)
                    saved = time.perf_counter()
        stage.end()
        self.seconds += time.perf_counter() - started
        self._stage, self._iteration, self._begun = self._stage + 1, 0, False
        if self._stage == len(self.stages):
            self._save()

    def _check(self, where: str, figures: dict[str, float]) -> None:
        """The divergence monitor, in all processes: what it finds in one stops them all."""
        found: Diverged | None = None
        try:
            self.monitor.check(where, figures)
        except Diverged as reason:
            found = reason
        if self.training.engine.any(found is not None):
            raise found or Diverged(f"training diverged in {where}, in another process, which says why")

    def _save(self, started: float | None = None) -> None:
        self.checkpoints.save(
            self._total,
            {
                "stage": self._stage,
                "iteration": self._iteration,
                "total": self._total,
                "seconds": self.seconds + (time.perf_counter() - started if started is not None else 0.0),
                "model": self.training.model.state_dict(),
                "generator": self.training.engine.generator.get_state(),
                "rows": self.training.shuffled_sampler.position,
                "log": self.log.state_dict(),
                "monitor": self.monitor.state_dict(),
                "begun": self.stages[self._stage].state_dict() if self._begun else None,
            },
        )

    def _resume(self) -> None:
        self.checkpoints.sweep()
        state = self.checkpoints.load_newest()
        if state is None:
            self.log.begin()
            return
        self._stage, self._iteration = state["stage"], state["iteration"]
        self._total, self.seconds = state["total"], state["seconds"]
        self.training.model.load_state_dict(state["model"])
        self.training.engine.generator.set_state(state["generator"])
        self.training.shuffled_sampler.position = state["rows"]
        self.log.load_state_dict(state["log"])
        self.monitor.load_state_dict(state["monitor"])
        if self.checkpoints.damaged:
            message = (
                f"checkpoint {' and '.join(self.checkpoints.damaged)} is damaged: training goes on from the one before"
            )
            self.log.write(event="damaged_checkpoint", message=message)
            self.training.progress.say(f"{message[:1].upper()}{message[1:]}.")
        if state["begun"] is not None:
            self.stages[self._stage].load_state_dict(state["begun"])
            self._begun = True

    def _return_to_last_good(self, reason: Diverged) -> None:
        state = self.checkpoints.load_newest()
        if state is not None:
            self.training.model.load_state_dict(state["model"])
        self.log.write(event="diverged", message=str(reason))
