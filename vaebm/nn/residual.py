"""Residual blocks of the image energy, after the paper's appendix.

block(x) = skip(x) + conv3x3(act(conv3x3(act(x)))),     act = swish / 1.1,  weights normalised
skip = identity, or a 1x1 convolution where the number of channels changes
a block that halves averages 2 x 2 pixels at its end (odd sizes keep their last row and column)
"""

from torch import Tensor, nn
from torch.nn import functional

from vaebm.nn.activations import LipschitzSwish
from vaebm.nn.weight_norm import WeightNormConv2d


class ResidualBlock(nn.Module):
    """(B, in, H, W) -> (B, out, H, W), or (B, out, ceil(H / 2), ceil(W / 2)) with `halve`."""

    def __init__(self, in_channels: int, out_channels: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.act = LipschitzSwish()
        self.first = WeightNormConv2d(in_channels, out_channels, 3)
        self.second = WeightNormConv2d(out_channels, out_channels, 3)
        self.skip = nn.Identity() if in_channels == out_channels else WeightNormConv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.skip(x) + self.second(self.act(self.first(self.act(x))))
        return functional.avg_pool2d(y, 2, ceil_mode=True) if self.halve else y
