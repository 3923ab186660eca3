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
the cache folder (`vaebm/files.py`). In a folder the complete ones come first, then those that end at Mixed_6e.
Safetensors, or PyTorch's own format read as plain tensors only: a file that asks for anything else is refused. Where a
name ends in eight hexadecimal digits, as that of the published file does, they have to be the first of its SHA-256.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.errors import InputError
from vaebm.files import cache_folder, sha256
from vaebm.nn.bfloat16 import has_bfloat16

Layer = Literal[64, 192, 768, 2048]
LAYERS: tuple[Layer, ...] = get_args(Layer)
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


class Mixed5(nn.Module):
    """35 x 35: (B, in, H, W) -> (B, 224 + pooled, H, W)."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(channels, 64, 1)
        self.branch5x5_1 = Convolution(channels, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three_twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three_twice, self.branch_pool.averaged(x)], 1)


class Mixed6a(nn.Module):
    """35 x 35 to 17 x 17: (B, 288, H, W) -> (B, 768, H', W')."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = Convolution(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(288, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three_twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three_twice, _halve(x)], 1)


class Mixed6(nn.Module):
    """17 x 17, with 7 x 7 convolutions taken apart: (B, 768, H, W) -> (B, 768, H, W)."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, inner, 1)
        self.branch7x7_2 = Convolution(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = Convolution(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = Convolution(768, inner, 1)
        self.branch7x7dbl_2 = Convolution(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = Convolution(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = Convolution(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = Convolution(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), seven, twice, self.branch_pool.averaged(x)], 1)


class Mixed7a(nn.Module):
    """17 x 17 to 8 x 8: (B, 768, H, W) -> (B, 1280, H', W')."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(768, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), _halve(x)], 1)


class Mixed7(nn.Module):
    """8 x 8: (B, in, H, W) -> (B, 2048, H, W); the pooling branch averages, in the last block it takes the maximum."""

    def __init__(self, channels: int, pooling: Literal["average", "maximum"]) -> None:
        super().__init__()
        self.pooling = pooling
        self.branch1x1 = Convolution(channels, 320, 1)
        self.branch3x3_1 = Convolution(channels, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        if self.pooling == "average":
            parts.append(self.branch_pool.averaged(x))
        else:
            parts.append(self.branch_pool(functional.max_pool2d(x, 3, 1, 1)))
        return torch.cat(parts, 1)


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
            self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = Mixed5(192, 32), Mixed5(256, 64), Mixed5(288, 64)
            self.Mixed_6a, self.Mixed_6b, self.Mixed_6c = Mixed6a(), Mixed6(128), Mixed6(160)
            self.Mixed_6d, self.Mixed_6e = Mixed6(160), Mixed6(192)
        if layer >= 2048:
            self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = Mixed7a(), Mixed7(1280, "average"), Mixed7(2048, "maximum")
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
FILES = (
    PUBLISHED,
    "pt_inception-2015-12-05-6726825d.safetensors",
    "pt_inception-2015-12-05-to-Mixed_6e.safetensors",
)


def find_weights(path: str | Path | None = None) -> Path:
    """The file of weights.

    Raises:
        InputError: there is none in any of the places.
    """
    if path is not None:
        given = Path(path)
        found = given if given.is_file() else _in_folder(given)
        if found is None:
            raise InputError(f"there are no Inception weights at {given}: give one of {', '.join(FILES)}")
        return found
    data = os.environ.get("VAEBM_DATA")
    folders = [Path(data) / "inception"] if data else []
    folders.append(cache_folder() / "inception")
    for folder in folders:
        found = _in_folder(folder)
        if found is not None:
            return found
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


def _in_folder(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)
