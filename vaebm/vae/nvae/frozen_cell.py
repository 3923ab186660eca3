"""A decoder cell whose weights stand still: what a chain pays for, forwards and backwards by hand.

    h = W1 x + b1,   v = D * silu(h) + b2,   u = W3 silu(v) + b3              W1, W3 products, D depth-wise
    g = sigmoid(V2 silu(V1 mean(u) + c1) + c2),      y = x + a g u

    du = a (g dy + V1^T [silu'(.) V2^T (g (1 - g) sum(u dy))] / pixels)
    dx = dy + W1^T silu'(h) (flipped(D) * silu'(v) (W3^T du))

Only x takes a gradient, so only h, v, u and g are kept. Pixels are rows (channels last): the 1 x 1 convolutions are
matrix products with weights laid out for each direction, cast and transposed once; the gradient of a depth-wise
convolution is one by the flipped kernel.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from vaebm.nn.folding import Foldable


class FrozenCell:
    """x + a SE(conv1x1(silu(depthwise(silu(conv1x1(x)))))), of (B, C, H, W), by the three folded convolutions.

    Products, and what is kept, are of `dtype`; the sum with x and the gate stay in float32.
    """

    def __init__(
        self, convolutions: Sequence[Foldable], gate: nn.Sequential, residual_scale: float, dtype: torch.dtype
    ) -> None:
        rise, depthwise, fall = (convolution.normalised_weight() for convolution in convolutions)
        self.rise_bias, self.depthwise_bias, self.fall_bias = (_bias(layer).to(dtype) for layer in convolutions)
        self.rise, self.scaled_fall = rise.flatten(1).to(dtype), (residual_scale * fall.flatten(1)).to(dtype)
        self.rise_transposed, self.fall_transposed = (w.flatten(1).to(dtype).T.contiguous() for w in (rise, fall))
        self.depthwise = depthwise.to(dtype)
        self.depthwise_flipped = self.depthwise.flip(2, 3)
        (self.squeeze, self.squeeze_bias), (self.excite, self.excite_bias) = _matrix(gate[0]), _matrix(gate[2])
        self.residual_scale, self.dtype = residual_scale, dtype

    def __call__(self, x: Tensor) -> Tensor:
        """The cell's output for x (B, C, H, W), in the precision of x."""
        y: Tensor = _Cell.apply(x, self)  # type: ignore[no-untyped-call]
        return y

    def convolved(self, wide: Tensor, like: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """The depth-wise convolution of rows of pixels (B H W, channels), to such rows."""
        images = wide.unflatten(0, (like.shape[0], *like.shape[2:])).permute(0, 3, 1, 2)
        out = functional.conv2d(images, kernel, bias, padding=kernel.shape[-1] // 2, groups=kernel.shape[0])
        return _rows(out).flatten(0, 1)


class _Cell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cell: FrozenCell) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            rows = _rows(x)  # (B, pixels, C)
            h = torch.addmm(cell.rise_bias, rows.flatten(0, 1).to(cell.dtype), cell.rise_transposed)
            v = cell.convolved(functional.silu(h), x, cell.depthwise, cell.depthwise_bias)
            u = torch.addmm(cell.fall_bias, functional.silu(v), cell.fall_transposed).view(rows.shape)
            squeezed = torch.addmm(cell.squeeze_bias, u.mean(1, dtype=torch.float32), cell.squeeze.T)
            gate = torch.addmm(cell.excite_bias, functional.silu(squeezed), cell.excite.T).sigmoid()
            y = torch.addcmul(rows, u.to(rows.dtype), (cell.residual_scale * gate).to(rows.dtype)[:, None])
        ctx.save_for_backward(h, v, u, squeezed, gate)
        ctx.cell = cell
        return _images(y, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_images: Tensor) -> tuple[Tensor, None]:
        cell: FrozenCell = ctx.cell
        h, v, u, squeezed, gate = ctx.saved_tensors
        with torch.autocast(dy_images.device.type, enabled=False):
            dy = _rows(dy_images)
            dgate = torch.linalg.vecdot(u.float(), dy.float(), dim=1) * gate * (1 - gate)
            dmean = torch.ops.aten.silu_backward(dgate @ cell.excite, squeezed) @ cell.squeeze
            du = torch.addcmul((dmean / dy.shape[1])[:, None].to(dy.dtype), dy, gate[:, None].to(dy.dtype))
            dv = _times_slope(du.flatten(0, 1).to(cell.dtype) @ cell.scaled_fall, v)
            dh = _times_slope(cell.convolved(dv, dy_images, cell.depthwise_flipped, None), h)
            dx = dh @ cell.rise
            return _images(dy + dx.view(dy.shape).to(dy.dtype), dy_images), None


def _matrix(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    return layer.weight.flatten(1).float(), layer.bias.float()


def _times_slope(gradient: Tensor, x: Tensor) -> Tensor:
    """silu'(x) * gradient, in place: these are the largest arrays, and writing to new memory is what takes time."""
    product: Tensor = torch.ops.aten.silu_backward.grad_input(gradient, x, grad_input=gradient)
    return product


def _rows(images: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H W, C); no copy where channels are last."""
    rows: Tensor = images.permute(0, 2, 3, 1).reshape(images.shape[0], -1, images.shape[1])
    return rows


def _images(rows: Tensor, like: Tensor) -> Tensor:
    images: Tensor = rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)
    return images


def _bias(layer: Foldable) -> Tensor:
    """What the layer adds to W * x: its output where the image is 0."""
    bias: Tensor = layer(layer.weight.new_zeros(1, layer.weight.shape[1] * getattr(layer, "groups", 1), 1, 1))
    return bias.flatten()
