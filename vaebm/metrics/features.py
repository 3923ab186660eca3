"""Features: what a distance between sets of images looks at.

    inception-768   the mean over pixels of a layer (64, 192, 768 or 2048 channels) of FID's Inception network
                    (`metrics/inception.py`)
    classifier      the 64 features of the recipe's own classifier, where there are labels (`metrics/classifier.py`);
                    of stacked digits 64 a channel (`metrics/classifier.py`)
    pixels          the image averaged down to at most 8 x 8 a channel, and flattened

Inception sees images as files hold them: rounded to 256 levels, grey ones repeated to three channels. Only with 2048
features and published settings is a Frechet distance on them called FID; the others are FID-64, -192, -768, and compare
with nothing published. Only features of one name, hash and precision compare.

A slow network's rows of real images are kept on disk, where they may be deleted at any time:

    ~/.cache/vaebm/features/KEY.safetensors,      KEY = SHA-256 of the features' settings and of the images
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from vaebm.data.splits import Split
from vaebm.data.transforms import to_model, to_uint8
from vaebm.errors import InputError
from vaebm.files import cache_folder, write_atomically
from vaebm.metrics.arrays import Array, as_images, as_tensor
from vaebm.metrics.classifier import Classifier, StackedClassifier
from vaebm.metrics.inception import Inception, Layer, find_weights, read_weights
from vaebm.wording import did_you_mean

IMAGES_AT_ONCE = 1024
INCEPTION_IMAGES_AT_ONCE = {"cpu": 8}  # its first layers then stay in the processor's cache; elsewhere 128
MAX_PIXEL_SIDE = 8
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, eq=False)
class Features:
    """A map from images to feature rows."""

    name: str  # "classifier", "pixels" or "inception-" and a layer
    sha256: str | None  # of the network's weights; None where there are no weights
    network: Callable[[Tensor], Tensor]  # images (B, C, H, W) in [-1, 1] to (B, dim)
    images_at_once: int = IMAGES_AT_ONCE  # B at most
    further: dict[str, str] = field(default_factory=dict)  # what else decides the numbers, for `settings`
    slow: bool = False  # whether rows of real images are worth keeping on disk

    def __call__(self, images: Array, advance: Callable[[int], None] | None = None) -> Tensor:
        """Rows (n, dim) float32 of images (n, C, H, W) in [-1, 1], on the CPU; `advance` gets the sizes of chunks."""
        return self.of_batches([as_images(images)], advance)

    def of_batches(self, batches: Iterable[Tensor], advance: Callable[[int], None] | None = None) -> Tensor:
        """The same of images that come in batches, of any size."""
        rows = []
        with torch.inference_mode():
            for batch in batches:
                for chunk in torch.split(batch.float(), self.images_at_once):
                    rows.append(self.network(chunk.cpu()).float().cpu())
                    if advance is not None:
                        advance(len(chunk))
        return torch.cat(rows).clone()

    @property
    def settings(self) -> dict[str, str]:
        """What a measurement on these features has to say of them."""
        return {"features": self.name} | ({} if self.sha256 is None else {"sha256": self.sha256}) | self.further


def inception_layer(
    layer: Layer,
    weights: str | Path | None = None,
    precision: Precision = "float32",
    device: str | torch.device = "cpu",
) -> Features:
    """A layer of FID's Inception network.

    Args:
        layer: 64, 192, 768 or 2048, as far as the file of weights goes.
        weights: a file or folder; found by itself unless given (`metrics/inception.py`).
        precision: bfloat16 is four times as fast where the processor multiplies it, and changes distances: compare only
            within one precision.
        device: where to compute.

    Raises:
        InputError: no weights, not those that the layer needs, or no such precision or device.
    """
    if precision not in get_args(Precision):
        raise InputError(f"there is no precision {precision!r}: {did_you_mean(str(precision), get_args(Precision))}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {device!r} on this machine: compute on cpu") from None
    network, sha256 = _network(layer, find_weights(weights).resolve(), precision, torch.device(device))

    def rows(images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise InputError(
                f"Inception features are of grey or colour images, and these have {images.shape[1]} channels: "
                "use classifier or pixel features"
            )
        stored = to_model(to_uint8(images.to(device)))
        found: Tensor = network(stored.expand(-1, 3, -1, -1))
        return found

    at_once = INCEPTION_IMAGES_AT_ONCE.get(torch.device(device).type, 128)
    further = {"resize": "bilinear 299", "precision": precision}
    return Features(f"inception-{layer}", sha256, rows, at_once, further, slow=True)


def inception_features(
    images: Array,
    weights: str | Path | None = None,
    layer: Layer = 768,
    precision: Precision = "float32",
    device: str | torch.device = "cpu",
) -> Tensor:
    """Rows (N, layer) float32 of images (N, 3, H, W) uint8.

    Raises:
        InputError: images of another kind (repeat grey ones to three channels), or no weights.
    """
    values = as_tensor(images, "images")
    if values.dtype != torch.uint8 or values.ndim != 4 or values.shape[1] != 3:
        raise InputError(
            f"inception_features needs images (N, 3, H, W) of uint8, not {tuple(values.shape)} {values.dtype}: "
            "repeat grey images to three channels, and bring pixels to 0 to 255"
        )
    features = inception_layer(layer, weights, precision, device)
    batches: Iterator[Tensor] = (to_model(batch) for batch in values.split(IMAGES_AT_ONCE))
    return features.of_batches(batches) if len(values) else torch.empty(0, layer)


def classifier_features(classifier: Classifier | StackedClassifier) -> Features:
    """The penultimate values of a trained classifier."""
    return Features("classifier", classifier.sha256(), classifier.features)


def pixel_features() -> Features:
    """Block averages of the pixels, at most 8 x 8 a channel."""
    return Features("pixels", None, _block_averages)


def real_features(
    features: Features, split: Split, indices: Tensor, advance: Callable[[int], None] | None = None
) -> Tensor:
    """Rows (n, dim) float32 of the images of `split` at `indices` (n,), from disk where they are known."""

    def batches() -> Iterator[Tensor]:
        return (split.batch(some).x for some in indices.split(IMAGES_AT_ONCE))

    if not features.slow:
        return features.of_batches(batches(), advance)
    digest = hashlib.sha256(json.dumps(features.settings, sort_keys=True).encode())
    for batch in batches():
        digest.update(f"{tuple(batch.shape)}".encode())
        digest.update(batch.numpy().tobytes())
    path = cache_folder() / "features" / f"{digest.hexdigest()}.safetensors"
    known = _read(path, len(indices))
    if known is not None:
        if advance is not None:
            advance(len(indices))
        return known
    rows = features.of_batches(batches(), advance)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save({"rows": rows.contiguous()}))
    except OSError as reason:
        warnings.warn(f"features are not kept, {path.parent} cannot be written ({reason.strerror})", stacklevel=2)
    return rows


def _read(path: Path, count: int) -> Tensor | None:
    try:
        rows = safetensors.torch.load(path.read_bytes())["rows"]
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
    return rows if rows.shape[0] == count and bool(rows.isfinite().all()) else None


@lru_cache(maxsize=2)  # reading and folding takes a second, and each holds up to 100 MB
def _network(layer: Layer, weights: Path, precision: Precision, device: torch.device) -> tuple[Inception, str]:
    state, sha256 = read_weights(weights)
    return Inception(layer, state, precision, device), sha256


def _block_averages(images: Tensor) -> Tensor:
    height, width = (min(side, MAX_PIXEL_SIDE) for side in images.shape[2:])
    return functional.adaptive_avg_pool2d(images, (height, width)).flatten(1)
