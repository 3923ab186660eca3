"""The distributed engine: the only file that knows Hugging Face Accelerate.

Every process holds the whole model, draws its own batches and chains from its own generator, and averages gradients
with the others once a step, as one flat vector:  g <- (1 / P) sum_p g_p. Nothing is wrapped, so chains and contrasts
run on the plain nets. Start several processes with `torchrun --nproc_per_node 2 -m vaebm train ...` (`accelerate launch
--cpu --num_processes 2` quietly runs one where no MPI launcher is installed).
"""

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.tracking import get_available_trackers
from torch import Tensor, nn

from vaebm.errors import InputError
from vaebm.models.saved import checked_device
from vaebm.progress import Progress

Made = TypeVar("Made")


def processes() -> int:
    """How many train together, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def fastest_device(name: str | None) -> torch.device:
    """The device of that name, or the one that training takes without a name."""
    if name is not None:
        return checked_device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Within, PyTorch computes with `count` threads of the CPU, or with as many as before where it is None."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


class Engine:
    """Devices, processes and trackers.

    Args:
        device: "cpu", "cuda", ...; None takes the fastest that is there.
        seed: of the processes' generators; process p draws from its own stream.
        tracker: name of an Accelerate tracker such as "tensorboard", or None.
        folder: where a tracker writes.

    Raises:
        InputError: no such device, or the tracker is not installed.
    """

    def __init__(self, device: str | None, seed: int, tracker: str | None, folder: Path) -> None:
        on_cpu = fastest_device(device).type == "cpu"
        if tracker is not None and tracker not in {str(known) for known in get_available_trackers()}:
            raise InputError(
                f"logging.tracker={tracker} needs a package that is not installed: install it, or set it to null"
            )
        self._tracker = tracker
        if PartialState._shared_state and PartialState().num_processes == 1:
            for state in (AcceleratorState, GradientState, PartialState):
                state._reset_state()  # a second training in one process may use another device
        # Accelerate joins processes without an accelerator only if told.
        self._accelerator = Accelerator(cpu=on_cpu, log_with=tracker, project_dir=folder)
        self.device = self._accelerator.device if device is None or device in ("cpu", "cuda") else torch.device(device)
        self.rank, self.world_size = int(self._accelerator.process_index), int(self._accelerator.num_processes)
        self._seed = seed
        self.generator = torch.Generator(self.device)
        self.take_noise(0)

    def take_noise(self, stream: int) -> None:
        """Puts the generator to the beginning of one of this process's streams of noise; training begins with 0."""
        self.generator.manual_seed(self._seed * 1_000_003 + 1000 * stream + self.rank)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def first(self, make: Callable[[], Made]) -> Made:
        """Calls `make` in the first process, and in the others when it is done there: for what is made once on disk.

        Raises:
            InputError, OSError: what `make` raises in the first process; the others refer to it.
        """
        made: Made | None = None
        failure: Exception | None = None
        if self.is_main:
            try:
                made = make()
            except (InputError, OSError) as error:
                failure = error
        if self.any(failure is not None):
            raise failure or InputError("the first process could not begin: it says why")
        return make() if made is None else made

    def per_process(self, batch_size: int) -> int:
        """This process's part of a batch."""
        if batch_size < self.world_size:
            raise InputError(f"batch_size={batch_size} is less than the {self.world_size} processes: raise it")
        return batch_size // self.world_size

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.world_size == 1 or not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        mean = self._reduce(flat)
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def average(self, figures: Mapping[str, float]) -> dict[str, float]:
        if self.world_size == 1:
            return dict(figures)
        mean = self._reduce(torch.tensor(list(figures.values()), dtype=torch.float64, device=self.device))
        return dict(zip(figures, mean.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        return self.average({"flag": float(flag)})["flag"] > 0

    def synchronise(self, module: nn.Module) -> None:
        """Gives every process the weights and buffers of the first."""
        if self.world_size > 1:
            with self._noticing_loss():
                for value in [*module.parameters(), *module.buffers()]:
                    torch.distributed.broadcast(value.data, 0)

    def free_memory(self) -> None:
        """Gives back what is not in use: of Python's, and of the accelerator's."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Returns when every process has come here."""
        with self._noticing_loss():
            self._accelerator.wait_for_everyone()

    def start_tracker(self, progress: Progress) -> None:
        if self._tracker is not None:
            with self._tracking(progress):
                self._accelerator.init_trackers("vaebm")

    def track(self, figures: Mapping[str, float], step: int, progress: Progress) -> None:
        with self._tracking(progress):
            self._accelerator.log(dict(figures), step=step)

    @contextmanager
    def _tracking(self, progress: Progress) -> Iterator[None]:
        """A tracker that fails is dropped: the same figures are in metrics.jsonl."""
        try:
            yield
        except Exception as failure:  # noqa: BLE001 - trackers raise what their servers and disks make them raise
            self._accelerator.trackers = []
            progress.say(f"The tracker {self._tracker} failed ({failure}): training goes on without it.")

    def close(self) -> None:
        """Ends the trackers and the process group; nothing of the engine but its generator serves after that."""
        self._accelerator.end_training()

    def _reduce(self, value: Tensor) -> Tensor:
        with self._noticing_loss():
            mean: Tensor = self._accelerator.reduce(value, reduction="mean")
        return mean

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """InputError: another process has ended, so nothing can be shared any more inside the block."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as lost:
            if self.world_size == 1:
                raise
            raise InputError(
                f"one of the {self.world_size} processes has ended: see above why; what was finished is saved, so run"
                " the same command again, with as many processes or fewer"
            ) from lost
