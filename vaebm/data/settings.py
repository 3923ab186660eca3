"""What a recipe may say of its data; each family of sets (`data/sets/`) adds its own `kind`."""

from abc import ABC, abstractmethod

from pydantic import Field
from torch import Tensor

from vaebm.data.splits import DataSet, Split
from vaebm.progress import Progress
from vaebm.registry import Settings

EIGHT_BITS = 8


class DataSettings(Settings, ABC):
    """Settings of any data set."""

    @abstractmethod
    def load(self, progress: Progress | None = None) -> DataSet:
        """Reads, draws or downloads the data.

        Raises:
            InputError: the data are missing, damaged or unsuitable; the message says what to do.
        """


class ImageSettings(DataSettings):
    """Settings of any set of 8-bit images."""

    bits: int = Field(
        EIGHT_BITS, ge=1, le=EIGHT_BITS, description="Bits of each pixel; fewer than 8 drop the lowest ones."
    )
    dequantise: bool = Field(
        False, description="Whether training batches carry uniform noise of one stored value's width."
    )
    flip: bool = Field(
        False, description="Whether each image of a training batch is mirrored left to right by a coin's toss."
    )

    @property
    def levels(self) -> int:
        """The stored value of white."""
        return (1 << self.bits) - 1

    @property
    def dropped_bits(self) -> int:
        """The lowest bits of a stored byte that models do not see."""
        return EIGHT_BITS - self.bits

    def split(self, values: Tensor, labels: Tensor | None = None, factors: Tensor | None = None) -> Split:
        """A split of 8-bit images (N, C, H, W), brought to the recipe's bit depth."""
        values = values >> self.dropped_bits if self.dropped_bits else values
        return Split(values, labels, self.levels, self.dequantise, factors, self.flip)
