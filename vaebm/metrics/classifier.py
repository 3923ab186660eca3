"""The recipe's own classifier: what labelled images are measured by where no published feature net fits.

    image (C, H, W) -> convolution 3x3 to 32 -> strided convolutions to 64 until no side is longer than 4 -> convolution
    to 64 -> linear to 64 -> linear to the classes,         SiLU between all of them
    features = the 64 penultimate values (before their SiLU), divided by their root mean square over the training images

One protocol for every data set: images drawn at random from the training split in batches of 64, three times as many as
there are, but between 40,000 and 160,000; Adam at 2e-3 falling linearly to 0, cross-entropy with labels smoothed by 0.1
(Szegedy et al., 2016). After 40,000 images of Fashion-MNIST the class fractions of held-out ones are up to 1.5
percentage points astray, after 160,000 up to 0.6. The division changes no ratio of distances; it puts kernel
distances, whose kernel has a scale, where they are meant to be. Weights and batches come from a generator with a fixed
seed, so all runs and models are measured with the same classifier.

Stacked digits are read by a classifier of single digits, trained on the channels of the training split's stacks:

    class = 100 a + 10 b + c     of an image whose channels it takes for the digits a, b and c
    features = its 64 features of each channel, in order: 192
"""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.data.splits import DataSet, Split
from vaebm.errors import InputError
from vaebm.files import write_atomically
from vaebm.metrics.arrays import Array, as_images
from vaebm.nn.initialise import initialise

FEATURES = 64
BATCH = 64
EPOCHS, MIN_IMAGES, MAX_IMAGES = 3, 40_000, 160_000  # drawn in training
LEARNING_RATE = 2e-3
SMOOTHING = 0.1
SEED = 0
IMAGES_AT_ONCE = 1024
MIN_SIDE = 8
MAX_FULL_SIDE = 32  # beyond it the first convolution strides as well, to keep the cost of an image bounded


class Classifier(nn.Module):
    """The network, for images of one shape (C, H, W) with sides of at least 8, and at least 2 classes."""

    scale: Tensor

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < MIN_SIDE or classes < 2:
            raise InputError(
                f"a classifier of {classes} classes for images {shape} is not possible: it needs at least 2 classes "
                f"and sides of {MIN_SIDE}; use pixel features"
            )
        self.shape, self.classes = shape, classes
        stride = 2 if max(height, width) > MAX_FULL_SIDE else 1
        layers: list[nn.Module] = [nn.Conv2d(channels, 32, 3, stride, 1), nn.SiLU()]
        height, width, depth = math.ceil(height / stride), math.ceil(width / stride), 32
        while max(height, width) > 4:
            layers += [nn.Conv2d(depth, 64, 3, 2, 1), nn.SiLU()]
            height, width, depth = math.ceil(height / 2), math.ceil(width / 2), 64
        layers += [nn.Conv2d(depth, 64, 3, 1, 1), nn.SiLU(), nn.Flatten(), nn.Linear(64 * height * width, FEATURES)]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("scale", torch.ones(()))
        self.to(torch.float32)  # whatever the process's default type is

    def features(self, images: Tensor) -> Tensor:
        """(B, 64) of images (B, C, H, W) in [-1, 1]."""
        features: Tensor = self.trunk(self._checked(images)) / self.scale
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        logits: Tensor = self.head(functional.silu(self.trunk(images)))
        return logits

    def predict(self, images: Array) -> Tensor:
        """Classes (n,) int64 of images (n, C, H, W) in [-1, 1]."""
        with torch.no_grad():
            parts = self._checked(as_images(images)).split(IMAGES_AT_ONCE)
            return torch.cat([self(part).argmax(1) for part in parts])

    def sha256(self) -> str:
        """Of the file that `save` writes."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def save(self, path: Path) -> None:
        write_atomically(path, self._bytes())

    @classmethod
    def load(cls, path: Path) -> "Classifier":
        """Reads what `save` wrote. InputError: there is no such file, or it is damaged."""
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                description = json.loads(file.metadata()["classifier"])
                names = file.keys()
                state = {name: file.get_tensor(name) for name in names}
            classifier = cls(tuple(description["shape"]), description["classes"])
            classifier.load_state_dict(state)
        except PermissionError:
            raise
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: evaluate the run to train its classifier") from None
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{path} is damaged: delete it and evaluate again to train the classifier anew") from None
        return classifier.eval().requires_grad_(False)

    def _checked(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.shape:
            raise InputError(
                f"the classifier is for images {self.shape}, not {tuple(images.shape[1:])}: train one for these"
            )
        return images

    def _bytes(self) -> bytes:
        # One metadata entry: several would be written in an order that changes from run to run, and so would the hash.
        description = {"classifier": json.dumps({"shape": self.shape, "classes": self.classes})}
        return safetensors.torch.save(dict(self.state_dict()), description)


@torch.inference_mode(False)  # it trains, wherever it is called from
@torch.enable_grad()
def train_classifier(split: Split, classes: int) -> Classifier:
    """Trains the classifier on a labelled split of images, by the protocol above; always the same one.

    Raises:
        InputError: points, no labels, or images too small.
    """
    if split.labels is None:
        raise InputError("a classifier needs labels, and these data have none: use pixel features")
    labels = split.labels.clone()
    if split.levels is None:
        raise InputError(
            "a classifier is for images, and these are points: compare points by their modes or likelihood"
        )
    generator = torch.Generator().manual_seed(SEED)
    channels, height, width = split.values.shape[1:]
    with torch.device("meta"):  # PyTorch's own initialisation would draw from the global generator
        classifier = Classifier((channels, height, width), classes)
    classifier.to_empty(device="cpu")
    classifier.scale.fill_(1.0)
    initialise(classifier, generator)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
    iterations = min(max(EPOCHS * len(split), MIN_IMAGES), MAX_IMAGES) // BATCH
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, iterations)
    for _ in range(iterations):
        rows = torch.randint(len(split), (BATCH,), generator=generator)
        loss = functional.cross_entropy(classifier(split.batch(rows).x), labels[rows], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    classifier.eval().requires_grad_(False)
    chunks = torch.split(torch.arange(len(split)), IMAGES_AT_ONCE)
    mean_square = sum(float(classifier.features(split.batch(rows).x).square().sum()) for rows in chunks)
    classifier.scale.fill_(math.sqrt(mean_square / (len(split) * FEATURES)))
    return classifier


DIGITS = 10


def is_stacked(data: DataSet) -> bool:
    """Whether these are stacks of digits: a digit of every channel as the factors, a class of every combination."""
    channels = data.shape[0]
    factors, classes = data.factor_names or (), data.class_names or ()
    return data.modality.pictured and len(factors) == channels and len(classes) == DIGITS**channels


class StackedClassifier:
    """A classifier of ten digits (1, H, W) that reads images of several channels."""

    def __init__(self, digits: Classifier, channels: int = 3) -> None:
        self.digits, self.channels = digits, channels
        self.classes = DIGITS**channels

    def features(self, images: Tensor) -> Tensor:
        """(B, channels * 64) of images (B, channels, H, W) in [-1, 1]."""
        return self.digits.features(self._each(images)).reshape(len(images), -1)

    def predict(self, images: Array) -> Tensor:
        """Classes (n,) int64 of images (n, channels, H, W) in [-1, 1]."""
        images = as_images(images)
        digits = self.digits.predict(self._each(images)).reshape(len(images), self.channels)
        place = DIGITS ** torch.arange(self.channels - 1, -1, -1)
        return (digits * place).sum(1)

    def sha256(self) -> str:
        return self.digits.sha256()

    def _each(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise InputError(f"stacks have {self.channels} channels, and these images are {tuple(images.shape[1:])}")
        return images.reshape(-1, 1, *images.shape[2:])


def train_stacked_classifier(split: Split) -> StackedClassifier:
    """Trains the classifier of digits on the channels of stacks, whose digits are the split's factors (N, channels).

    Raises:
        InputError: the split holds no stacks of digits.
    """
    if split.factors is None or split.levels is None or split.factors.shape[1] != split.values.shape[1]:
        raise InputError("a classifier of stacks needs images with the digit of every channel as their factors")
    values = split.values if isinstance(split.values, Tensor) else split.values[torch.arange(len(split))]
    channels = values.shape[1]
    digits = replace(
        split, values=values.reshape(-1, 1, *values.shape[2:]), labels=split.factors.flatten().long(), factors=None
    )
    return StackedClassifier(train_classifier(digits, DIGITS), channels)
