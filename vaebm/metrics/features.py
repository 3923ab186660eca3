"""Features: what a distance between sets of images looks at.

    classifier   where there are labels: the 64 features of the recipe's own classifier (`metrics/classifier.py`)
    pixels       where there are none: the image averaged down to at most 8 x 8 a channel, and flattened

Features of one name and one hash compare; others do not, which is why both go into every measurement's settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vaebm.errors import InputError
from vaebm.metrics.classifier import Classifier

IMAGES_AT_ONCE = 1024
LARGEST_PIXEL_SIDE = 8


@dataclass(frozen=True, eq=False)
class Features:
    """A map from images to feature rows.

    Args:
        name: "classifier" or "pixels".
        sha256: of the network's weights; None where there are no weights.
        network: images (B, C, H, W) in [-1, 1] to (B, dim).
    """

    name: str
    sha256: str | None
    network: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """Feature rows (n, dim) float32 of images (n, C, H, W) in [-1, 1], computed in chunks.

        Raises:
            InputError: these are not images of the shape that the network was made for.
        """
        if images.ndim != 4:
            raise InputError(f"features need images (n, C, H, W), not an array of shape {tuple(images.shape)}")
        with torch.no_grad():
            chunks = torch.split(images.detach().cpu().float(), IMAGES_AT_ONCE)
            return torch.cat([self.network(chunk).float() for chunk in chunks])

    @property
    def settings(self) -> dict[str, str]:
        """What a measurement on these features has to say of them."""
        return {"features": self.name} | ({} if self.sha256 is None else {"sha256": self.sha256})


def classifier_features(classifier: Classifier) -> Features:
    """The penultimate values of a trained classifier."""
    return Features("classifier", classifier.sha256(), classifier.features)


def pixel_features() -> Features:
    """Block averages of the pixels, at most 8 x 8 a channel."""
    return Features("pixels", None, _block_averages)


def _block_averages(images: Tensor) -> Tensor:
    height, width = (min(side, LARGEST_PIXEL_SIDE) for side in images.shape[2:])
    return functional.adaptive_avg_pool2d(images, (height, width)).flatten(1)
