"""What a model is to the rest: a density to evaluate, codes to read off, samples to draw.

    class ToyModel(Model):           one file: the module, its settings with `kind` and `build`
    MODELS.register(ToySettings)     one line (models/saved.py): recipes, folders, sampling and measuring find it

A model is made of modules; settings make the modules. Settings travel with the weights in config.json, so that a saved
model is built again from its folder alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from vaebm.data.modality import modality_of
from vaebm.distributions.columns import Columns
from vaebm.errors import check_choice
from vaebm.models.inputs import whole_number
from vaebm.models.saved import Saved
from vaebm.progress import Progress
from vaebm.registry import Settings

Show = Literal["sample", "mean", "denoised"]
SHOWS: tuple[Show, ...] = ("sample", "mean", "denoised")


class Batches(Protocol):
    """Keeps batches of chains as they end, so that a drawing that was stopped goes on."""

    def load(self, generator: torch.Generator) -> list[Tensor]:
        """Batches (rows, dim) that are done, in order; the generator is put where they left it."""
        ...

    def keep(self, index: int, eps: Tensor, generator: torch.Generator) -> None:
        """Another batch."""
        ...


class ModelSettings(Settings, ABC):
    """Everything that decides what a saved model computes; `kind` names the family."""

    changeable: ClassVar[frozenset[str]] = frozenset()  # names of what may change after training

    kind: str = Field(description="the model family")

    @abstractmethod
    def build(self, data_shape: tuple[int, ...], generator: torch.Generator, **parts: Any) -> Model:
        """An untrained model for data of this shape, its weights drawn from `generator`.

        Args:
            data_shape: (C, H, W), (dim,) or (1, width).
            generator: source of the weights.
            **parts: modules by name that are taken instead of being built, such as a VAE trained elsewhere.

        Raises:
            InputError: parts that do not go together, or a shape that they cannot have.
        """


class Model(Saved, nn.Module, ABC):
    """The contract. `data_shape` is (C, H, W) for images in [-1, 1], (dim,) for points, (1, width) for rows of a table.

    Attributes:
        settings: what it was built from.
        subjects: whose samples can be drawn; the model's own first.
    """

    settings: Any
    data_shape: tuple[int, ...]
    subjects: ClassVar[tuple[str, ...]]

    @abstractmethod
    def energy(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """E(x, z) of (B, *data_shape) and (B, latent_dim), to (B,), in nats; low = likely."""

    @abstractmethod
    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        """(B,), in nats, up to a constant."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """The representation of x, (B, latent_dim)."""

    @abstractmethod
    def draw(
        self,
        n: int,
        generator: torch.Generator,
        subject: str | None = None,
        progress: Progress | None = None,
        batches: Batches | None = None,
    ) -> Tensor:
        """What n samples of a subject are made of, (n, ...): rows that `render` turns into data.

        A model that draws for long keeps what is done in `batches`, and goes on from what is there; others ignore it.
        """

    @abstractmethod
    def render(self, draws: Tensor, show: Show, generator: torch.Generator) -> Tensor:
        """Data (n, *data_shape), in the model's range, of what `draw` gives."""

    def update_settings(self, settings: Any) -> None:
        """Takes settings that ask for the same nets.

        Raises:
            InputError: they do not suit the nets.
        """
        self.settings = settings

    def prepare(self, progress: Progress) -> None:
        """Makes ready for long work, such as by compiling; nothing random is drawn from a shared generator."""

    def show_of(self, subject: str, show: Show | None = None) -> Show:
        """How a subject is shown where nobody asks for another way."""
        return show or "sample"

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        subject: str | None = None,
        show: Show | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """n samples: images (n, C, H, W) in [0, 1], points (n, dim), or rows (n, 1, width) that `columns` decode.

        The same seed gives the same samples.

        Raises:
            InputError: n is below 1, or the subject or the show does not exist.
        """
        n, seed = whole_number("n", n, low=1), whole_number("seed", seed)
        subject = self.check_subject(subject)
        if show is not None:
            check_choice("show", show, SHOWS)
        with torch.inference_mode(False):
            generator = torch.Generator(self.device).manual_seed(seed)
            draws = self.draw(n, generator, subject, progress)
            return modality_of(self.data_shape).to_user(self.render(draws, self.show_of(subject, show), generator))

    def check_subject(self, subject: str | None) -> str:
        """The subject, by default the model itself.

        Raises:
            InputError: this model has no such subject.
        """
        if subject is None:
            return self.subjects[0]
        check_choice("subject", subject, self.subjects)
        return subject

    @property
    def columns(self) -> Columns | None:
        """Of a table: what the numbers of its rows stand for; None for other data."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype
