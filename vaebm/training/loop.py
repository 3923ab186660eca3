"""The loop: stages in order, each an iteration at a time, logged, monitored, checkpointed and stoppable.

A stage is begun once, stepped `iterations` times and ended once. A checkpoint between two steps holds the model, the
stage's own state (optimizer, averages, chains), the generator, the place in the data's order, the log's length and
the position, so nothing that happens after a resume depends on whether there was an interruption, or when a checkpoint
was taken.

On an alarm of the divergence monitor training returns to a healthy checkpoint of the stage: the newest with finite
weights after which `window` iterations passed without an alarm, and to which it did not return before; else the oldest
that is left. It goes on with new noise and a shorter step of the likely cause: with 0.3 of it the first time, since an
accident is nobody's step and a phase learns little at a tenth of its rate, then with .03 and .01, which mend steps that
are ten and a hundred times too long. Such checkpoints are taken at fixed iterations, so a run that was interrupted
returns to the same ones; what happened stays in them. When the tries are used up, the model of a healthy checkpoint is
the result.
"""

import time
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import Field

from vaebm.errors import Diverged, InputError, Preempted, Step
from vaebm.registry import Settings
from vaebm.signals import GRACE, Stop, listening
from vaebm.training.checkpoint import NOISE, Checkpoints, Tree
from vaebm.training.health import Health
from vaebm.training.log import MetricsLog
from vaebm.training.memory import is_out_of_memory
from vaebm.training.monitor import DivergenceMonitor
from vaebm.training.stage import Stage, Training

PACES = (1.0, 0.3, 0.03, 0.01)  # what a step is multiplied by after so many alarms of it; beyond, a tenth for each


class CheckpointSettings(Settings):
    """When a run is saved."""

    every_seconds: float = Field(30.0, ge=0, description="seconds between two checkpoints; 0 for every iteration")
    every_iterations: int = Field(250, ge=1, description="iterations between two that an alarm can return to")
    keep: int = Field(3, ge=1, description="newest checkpoints that stay on disk, of both sorts")


class Loop:
    """Runs stages; `run` may be called again after any interruption, in this process or another."""

    def __init__(
        self,
        training: Training,
        stages: Sequence[Stage],
        checkpoints: Checkpoints,
        log: MetricsLog,
        monitor: DivergenceMonitor,
        settings: CheckpointSettings,
    ) -> None:
        self.training, self.stages = training, stages
        self.checkpoints, self.log, self.monitor = checkpoints, log, monitor
        self.settings, self.health = settings, Health()
        self._stage, self._iteration, self._begun = 0, 0, False
        self._total, self.seconds = 0, 0.0  # iterations, and their time in all sessions together
        self._timed = 0.0  # until when it is counted
        self._healthy: list[int] = []  # iterations of the checkpoints that an alarm can return to
        self._rollbacks: list[dict[str, Any]] = []

    def run(self) -> None:
        """Goes on from the newest checkpoint, or from the beginning, to the end.

        Raises:
            Diverged: it was given up; the model is that of a healthy checkpoint.
            Preempted, Interrupted: a signal came; all is saved.
        """
        with listening() as stop:
            self._timed = time.perf_counter()
            self._resume()
            while self._stage < len(self.stages):
                stage = self.stages[self._stage]
                try:
                    self._run_stage(stage, stop)
                except Diverged as alarm:
                    self._roll_back(stage, alarm)

    def _run_stage(self, stage: Stage, stop: Stop) -> None:
        engine = self.training.engine
        stop.grace = 0.0  # what comes before the iterations, and after them, is done anew
        if not self._begun:
            stage.begin()
            self.monitor.begin_stage()
            self.health.begin_stage()
            self._begun = True
            engine.synchronise(self.training.model)
            self._check(stage, {})
            self.log.write(event="stage", stage=stage.name, iterations=stage.iterations)
            self._healthy = []
            self._save_healthy()
        stage.set_pace(self._pace(stage, "learning_rate"))
        self.training.sampler_pace = self._pace(stage, "step_size")
        saved, stop.grace = time.perf_counter(), GRACE
        with self.training.progress.task(stage.name, stage.iterations, "iterations", self._iteration) as task:
            while self._iteration < stage.iterations:
                figures = self._step(stage)
                self._check(stage, figures)
                self._iteration += 1
                self._total += 1
                self.log.add(figures)
                task.advance(1, words=self.health.line, **figures)
                if self._iteration % self.log.every == 0 or self._iteration == stage.iterations:
                    self._write_line(stage)
                if self._iteration % self.settings.every_iterations == 0 and self._iteration < stage.iterations:
                    self._save_healthy()
                if engine.any(stop.reason is not None):
                    stop.settle()
                    self._save()
                    reason = stop.reason or Preempted
                    raise reason(
                        f"stopped in {stage.name} at iteration {self._iteration} of {stage.iterations}; all is saved:"
                        " run the same command again to go on"
                    )
                if engine.any(time.perf_counter() - saved > self.settings.every_seconds):
                    self._save()
                    saved = time.perf_counter()
        stop.grace = 0.0
        stage.end()
        self._stage, self._iteration, self._begun = self._stage + 1, 0, False
        if self._stage == len(self.stages):
            self._healthy = []
            self._save()

    def _step(self, stage: Stage) -> dict[str, float]:
        """One iteration of a stage; where memory runs out, anew from its beginning in smaller parts of the batch.

        Raises:
            InputError: the parts cannot be smaller.
        """
        engine, sampler = self.training.engine, self.training.shuffled_sampler
        noise, rows = engine.generator.get_state(), sampler.position
        while True:
            try:
                return stage.step(self._iteration)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                where = f"out of memory in {stage.name}, iteration {self._iteration}"
                if engine.world_size > 1 or not stage.halve():
                    raise InputError(
                        f"{where}, with {max(1, stage.batch_size // stage.parts)} data at a time: lower"
                        f" {stage.path}.batch_size, or take smaller nets or fewer chains; then train anew into another"
                        " --out"
                    ) from error
            engine.generator.set_state(noise)
            sampler.position = rows
            engine.free_memory()
            message = (
                f"{where}: a batch of {stage.batch_size} is learned from in {stage.parts} parts from here on, whose"
                " gradients are added up"
            )
            self.log.write(event="memory", stage=stage.name, iteration=self._iteration, message=message)
            self.training.progress.say(f"{message[:1].upper()}{message[1:]}.")

    def _write_line(self, stage: Stage) -> None:
        """The figures since the last line, what they say of the stage's health, and what they warn of."""
        engine, progress = self.training.engine, self.training.progress
        row = engine.average(self.log.means())
        self._count_time()
        warnings = self.health.look(stage, self._iteration, row)
        place = {"stage": stage.name, "iteration": self._iteration}
        self.log.write(**place, seconds=round(self.seconds, 2), **row, health=self.health.line)
        for warning in warnings:
            self.log.write(event="warning", **place, message=warning)
            progress.say(f"{warning[:1].upper()}{warning[1:]}.")
        engine.track({f"{stage.name}/{name}": value for name, value in row.items()}, self._total, progress)

    def _check(self, stage: Stage, figures: dict[str, float]) -> None:
        """The divergence monitor, in all processes: what it finds in one is an alarm in all of them."""
        engine, found = self.training.engine, None
        where = f"{stage.name}, iteration {self._iteration}"
        rows, self.training.broken_rows = self.training.broken_rows, []
        try:
            self.monitor.check(where, figures, rows)
        except Diverged as alarm:
            advice = f"; most likely {stage.setting(alarm.step)} is too high: lower it" if alarm.step else ""
            found = Diverged(f"{alarm}{advice}", alarm.step)
        if engine.any(found is not None):
            message = (
                f"training diverged in {where}, in another process, which says why" if found is None else str(found)
            )
            steps = [step for step in get_args(Step) if engine.any(found is not None and found.step == step)]
            raise Diverged(message, steps[0] if steps else None)

    def _pace(self, stage: Stage, step: Step, further: int = 0) -> float:
        """What the stage's alarms, and as many further ones, multiply one of its steps by."""
        alarms = further + sum((one["stage"], one["step"]) == (stage.name, step) for one in self._rollbacks)
        return PACES[min(alarms, len(PACES) - 1)] * 0.1 ** max(0, alarms - len(PACES) + 1)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.seconds, self._timed = self.seconds + now - self._timed, now

    def _save_healthy(self) -> None:
        """Saves a checkpoint that an alarm can return to, unless weights are not finite."""
        finite = all(bool(weight.isfinite().all()) for weight in self.training.model.parameters())
        if not self.training.engine.any(not finite):
            self._healthy = [*self._healthy, self._total][-self.settings.keep :]
        self._save()

    def _save(self) -> None:
        self._count_time()
        self.checkpoints.save(
            self._total,
            {
                "stage": self._stage,
                "iteration": self._iteration,
                "total": self._total,
                "seconds": self.seconds,
                "healthy": self._healthy,
                "rollbacks": self._rollbacks,
                "model": self.training.model.state_dict(),
                NOISE: self.training.engine.generator.get_state(),
                "rows": self.training.shuffled_sampler.position,
                "log": self.log.state_dict(),
                "monitor": self.monitor.state_dict(),
                "health": self.health.state_dict(),
                "begun": self.stages[self._stage].state_dict() if self._begun else None,
            },
            self._healthy,
        )

    def _resume(self) -> None:
        self.checkpoints.sweep()
        state = self.checkpoints.load_newest()
        if state is None:
            self.log.begin()
            self._save_healthy()
            return
        try:
            _check_position(state, self.stages)
            self.seconds, self._healthy, self._rollbacks = state["seconds"], state["healthy"], state["rollbacks"]
            self._restore(state)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError) as misfit:
            raise InputError(
                f"the newest checkpoint in {self.checkpoints.folder} is not of this recipe, or of another version"
                f" ({type(misfit).__name__}: {misfit}): delete the checkpoints folder, and the same command starts over"
            ) from misfit
        if self.checkpoints.damaged:
            message = (
                f"checkpoint {' and '.join(self.checkpoints.damaged)} is damaged: training goes on from the one before"
            )
            self.log.write(event="damaged_checkpoint", message=message)
            self.training.progress.say(f"{message[:1].upper()}{message[1:]}.")

    def _restore(self, state: Tree) -> None:
        """Goes to where a checkpoint was taken."""
        self._stage, self._iteration, self._total = state["stage"], state["iteration"], state["total"]
        self.training.model.load_state_dict(state["model"])
        if NOISE in state:
            self.training.engine.generator.set_state(state[NOISE])
        self.training.shuffled_sampler.position = state["rows"]
        self.log.load_state_dict(state["log"])
        self.monitor.load_state_dict(state["monitor"])
        self.health.load_state_dict(state["health"])
        self._begun = state["begun"] is not None
        if self._begun:
            self.stages[self._stage].load_state_dict(state["begun"])

    def _roll_back(self, stage: Stage, alarm: Diverged) -> None:
        """Returns to a healthy checkpoint, with a shorter step and new noise.

        Raises:
            Diverged: the tries are used up; the model is that of a healthy checkpoint.
        """
        state, tries, most = self._healthy_state(), len(self._rollbacks) + 1, self.monitor.settings.rollbacks
        if state is None or tries > most:
            state = state or self.checkpoints.load_newest()
            if state is not None:
                self.training.model.load_state_dict(state["model"])
                if state["begun"] is not None and state["stage"] == self._stage:
                    stage.take_best(state["begun"])
            tried = f" {len(self._rollbacks)} returns to a healthy checkpoint did not help." if self._rollbacks else ""
            message = f"{alarm}.{tried} The last good model is kept"
            self.log.write(event="diverged", message=message)
            raise Diverged(message, alarm.step) from alarm
        self._restore(state)
        self._healthy = [iteration for iteration in self._healthy if iteration <= self._total]
        how = ""
        if alarm.step is not None:
            how = f" with {stage.setting(alarm.step)} times {self._pace(stage, alarm.step, 1):g} and"
        message = (
            f"{alarm}. Training returns to iteration {self._iteration} of {self.stages[self._stage].name} and goes on"
            f"{how} with new noise (try {tries} of {most})"
        )
        self._rollbacks.append(
            {
                "stage": stage.name,
                "step": alarm.step,
                "total": self._total,
                "iteration": self._iteration,
                "message": message,
            }
        )
        for rollback in self._rollbacks[len(state["rollbacks"]) :]:  # the log is as long as it was then
            self.log.write(event="rollback", seconds=round(self.seconds, 1), **rollback)
        self.training.progress.say(f"{message[:1].upper()}{message[1:]}.")
        self.training.engine.take_noise(tries)
        self.checkpoints.drop_after(self._total)
        self._save()

    def _healthy_state(self) -> Tree | None:
        """The state of the checkpoint to return to; None where none is whole."""
        returned = [rollback["total"] for rollback in self._rollbacks]
        latest = self._total - self.monitor.settings.window
        chosen = [iteration for iteration in self._healthy if iteration <= latest and iteration not in returned]
        for iteration in [*reversed(chosen), *self._healthy]:
            if (state := self.checkpoints.load(iteration)) is not None:
                return state
        return None


def _check_position(state: Tree, stages: Sequence[Stage]) -> None:
    """Refuses a checkpoint of other stages. ValueError: it is one."""
    place, iterations = state["stage"], [stage.iterations for stage in stages]
    known = [0 <= state[name] < 2**53 for name in ("iteration", "total", "seconds", "rows")]
    known += [0 <= place <= len(stages), state["iteration"] <= [*iterations, 0][place]]
    known += [type(place) is int, type(state["iteration"]) is int, state["log"]["length"] >= 0]
    known += [all(type(iteration) is int for iteration in state["healthy"]), isinstance(state["healthy"], list)]
    known += [{"stage", "step", "total", "message"} <= rollback.keys() for rollback in state["rollbacks"]]
    if not all(known):
        raise ValueError("position")
