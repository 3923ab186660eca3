"""The Inception network behind FID, up to the layer that is asked for, and where its weights are looked for.

    299 x 299 -> 3x3 s2 32 -> 3x3 32 -> 3x3 64 -> max 3 s2      mean over pixels:   64 features
              -> 1x1 80 -> 3x3 192 -> max 3 s2                                      192
              -> Mixed_5b-5d (35 x 35) -> 6a-6e (17 x 17)                           768
              -> 7a-7c (8 x 8)                                                     2048

Inception v3 (Szegedy et al. 2016) as TensorFlow's inception-2015-12-05 has it, which published FIDs rest on (Heusel et
al. 2017). It differs from later Inception v3s in its pooling branches: averages leave the padding out of their count,
and Mixed_7c takes the maximum. Modules have the names of the published PyTorch weights. Batch norms (eps 1e-3) are
folded: a layer is one convolution with a bias, then a ReLU.

Images come in [-1, 1] and are resized to 299 x 299 bilinearly (corners not aligned, no antialiasing), as in the public
PyTorch FID.

Weights are those of the path that was given, a file or a folder, or lie in $VAEBM_DATA/inception, or in inception/ of
the cache folder (`vaebm/files.py`): safetensors, or PyTorch's own format read as plain tensors only. Where a name ends
in eight hexadecimal digits, as that of the published file does, they have to be the first of its SHA-256.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.errors import InputError
from vaebm.files import cache_folder, sha256, user_path
from vaebm.nn.bfloat16 import has_bfloat16

Layer = Literal[64, 192, 768, 2048]
LAYERS: tuple[Layer, ...] = get_args(Layer)
Steps = Sequence[tuple[Any, ...]]
SIDE = 299
BATCH_NORM_EPS = 1e-3


class Convolution(nn.Conv2d):
    """Convolution, folded batch norm, ReLU."""

    bias: Tensor

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        """What comes in is multiplied in the weights' type and comes out in its own."""
        y: Tensor = super()._conv_forward(input.to(weight.dtype), weight, bias)
        return y.to(input.dtype)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input).relu_()

    def averaged(self, x: Tensor) -> Tensor:
        """Of the 3 x 3 average of x. It commutes with a 1 x 1 convolution, whose output has fewer channels."""
        y = super().forward(x)
        return functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False).relu_()

    def halved(self, x: Tensor) -> Tensor:
        """With a 3 x 3 maximum of stride 2, which commutes with the ReLU and leaves it a quarter of the pixels."""
        return _halve(super().forward(x)).relu_()


class Mixed(nn.Module):
    """Branches of convolutions side by side, joined along the channels: (B, in, H, W) -> (B, out, H', W').

    Args:
        channels: that come in.
        branches: the convolutions of each in order, as channels that come out and kernel; several kernels fork it.
        pooled: channels of a last branch, a 1 x 1 convolution of what a 3 x 3 pooling leaves. 0 for a block that halves
            the image: the last convolution of every branch has stride 2 then, and the last branch is the maximum alone.
        average: whether the pooling takes the average, else the maximum.
    """

    def __init__(self, channels: int, branches: Mapping[str, Steps], pooled: int = 0, average: bool = True) -> None:
        super().__init__()
        self.average = average
        self.paths: list[list[list[str]]] = []
        for branch, steps in branches.items():
            width, path = channels, []
            for number, (outputs, *kernels) in enumerate(steps, 1):
                name = branch if len(steps) == 1 else f"{branch}_{number}"
                path.append([name] if len(kernels) == 1 else [f"{name}{letter}" for letter in "ab"])
                halves = not pooled and number == len(steps)
                for layer, (height, across) in zip(path[-1], kernels, strict=True):
                    stride, padding = (2, (0, 0)) if halves else (1, (height // 2, across // 2))
                    self.add_module(layer, Convolution(width, outputs, (height, across), stride, padding))
                width = outputs
            self.paths.append(path)
        self.branch_pool = Convolution(channels, pooled, 1) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for path in self.paths:
            ends = [x]
            for names in path:
                ends = [self.get_submodule(name)(ends[0]) for name in names]
            parts += ends
        if self.branch_pool is None:
            parts.append(_halve(x))
        elif self.average:
            parts.append(self.branch_pool.averaged(x))
        else:
            parts.append(self.branch_pool(functional.max_pool2d(x, 3, 1, 1)))
        return torch.cat(parts, 1)


POINT, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)  # kernels
TWICE: Steps = [(64, POINT), (96, THREE), (96, THREE)]
MIXED_5 = {"branch1x1": [(64, POINT)], "branch5x5": [(48, POINT), (64, FIVE)], "branch3x3dbl": TWICE}
MIXED_6A = {"branch3x3": [(384, THREE)], "branch3x3dbl": TWICE}
MIXED_7A = {
    "branch3x3": [(192, POINT), (320, THREE)],
    "branch7x7x3": [(192, POINT), (192, ROW), (192, COLUMN), (192, THREE)],
}
MIXED_7: dict[str, Steps] = {
    "branch1x1": [(320, POINT)],
    "branch3x3": [(384, POINT), (384, (1, 3), (3, 1))],
    "branch3x3dbl": [(448, POINT), (384, THREE), (384, (1, 3), (3, 1))],
}


def _mixed_6(inner: int) -> Mixed:
    """17 x 17, with 7 x 7 convolutions taken apart."""
    seven = [(inner, POINT), (inner, ROW), (192, COLUMN)]
    twice = [(inner, POINT), (inner, COLUMN), (inner, ROW), (inner, COLUMN), (192, ROW)]
    return Mixed(768, {"branch1x1": [(192, POINT)], "branch7x7": seven, "branch7x7dbl": twice}, 192)


class Inception(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to features (B, layer), float32.

    Args:
        layer: how many features, and with that how far the network goes.
        state: weights by their published names, or None for what PyTorch draws; more of them than needed may be there.
        precision: of convolutions; the resize and the mean over pixels stay in float32. Where the device does not
            multiply bfloat16, weights and results are rounded to it and multiplied in float32: the same to a ninth of
            what bfloat16 changes (either sums in float32), for a third more than float32's time instead of four times.
        device: where to compute.

    Raises:
        InputError: weights that the layer needs are missing, or have another shape.
    """

    def __init__(
        self,
        layer: Layer,
        state: Mapping[str, Tensor] | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        super().__init__()
        if layer not in LAYERS:
            raise InputError(f"there is no Inception layer of {layer} features: choose {', '.join(map(str, LAYERS))}")
        self.layer = layer
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        if layer >= 192:
            self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
            self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        if layer >= 768:
            self.Mixed_5b, self.Mixed_5c = Mixed(192, MIXED_5, 32), Mixed(256, MIXED_5, 64)
            self.Mixed_5d, self.Mixed_6a = Mixed(288, MIXED_5, 64), Mixed(288, MIXED_6A)
            self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(_mixed_6, (128, 160, 160, 192))
        if layer >= 2048:
            self.Mixed_7a, self.Mixed_7b = Mixed(768, MIXED_7A), Mixed(1280, MIXED_7, 192)
            self.Mixed_7c = Mixed(2048, MIXED_7, 192, average=False)
        if state is not None:
            self._take(state)
        self.precision = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.to(device, self.precision)
        multiplied = self.precision if has_bfloat16(device) else torch.float32
        self.to(multiplied, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = images.contiguous(memory_format=torch.channels_last)
        x = functional.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3.halved(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x.to(self.precision))))
        if self.layer >= 192:
            x = self.Conv2d_4a_3x3.halved(self.Conv2d_3b_1x1(x))
        if self.layer >= 768:
            x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
            x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        if self.layer >= 2048:
            x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3), dtype=torch.float32)

    def _take(self, state: Mapping[str, Tensor]) -> None:
        """w <- w gamma / sqrt(var + eps),  b <- beta - mean gamma / sqrt(var + eps)."""
        for name, layer in self.named_modules():
            if not isinstance(layer, Convolution):
                continue
            parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
            try:
                weight, gamma, beta, mean, variance = (state[f"{name}.{part}"].double() for part in parts)
            except KeyError as missing:
                raise InputError(
                    f"the Inception weights lack {missing}, which {self.layer} features need: choose a smaller layer,"
                    " or the complete weights"
                ) from None
            if weight.shape != layer.weight.shape:
                raise InputError(
                    f"the Inception weights have {name}.conv.weight of shape {tuple(weight.shape)}:"
                    f" {tuple(layer.weight.shape)} is expected, so these are another network's"
                )
            scale = gamma / (variance + BATCH_NORM_EPS).sqrt()
            with torch.no_grad():
                layer.weight.copy_(weight * scale[:, None, None, None])
                layer.bias.copy_(beta - mean * scale)


def _halve(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2)


PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"
FILES = (PUBLISHED, "pt_inception-2015-12-05-6726825d.safetensors", "pt_inception-2015-12-05-to-Mixed_6e.safetensors")


def find_weights(path: str | Path | None = None) -> Path:
    """The file of weights. InputError: there is none in any of the places."""
    data = os.environ.get("VAEBM_DATA")
    folders = [user_path(data) / "inception"] if data else []
    folders = [user_path(path)] if path is not None else [*folders, cache_folder() / "inception"]
    for found in (folders[0], *(folder / name for folder in folders for name in FILES)):
        if found.is_file():
            return found
    if path is not None:
        raise InputError(f"there are no Inception weights at {path}: give one of {', '.join(FILES)}")
    raise InputError(
        f"there are no Inception weights in {' or '.join(map(str, folders))}: download {ADDRESS} into the latter"
    )


def read_weights(path: Path) -> tuple[Mapping[str, Tensor], str]:
    """Tensors by their published names, and the SHA-256 of the file.

    Raises:
        InputError: the file is damaged, or no file of weights.
    """
    try:
        digest = sha256(path)
    except OSError as reason:
        raise InputError(f"{path} cannot be read ({reason.strerror}): give a readable file of weights") from None
    promised = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if promised and not digest.startswith(promised[1]):
        raise InputError(f"{path} is damaged, its SHA-256 begins with {digest[:8]}: delete it and download {ADDRESS}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path), digest
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  # whatever a reader says of a file that it cannot read
        raise InputError(f"{path} is damaged or holds no plain weights: delete it and download {ADDRESS}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds more than weights: give one of {', '.join(FILES)}")
    return state, digest
