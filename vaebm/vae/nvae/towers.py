"""The two ends of an NVAE that hold no latents: the bottom-up tower, and the way from the last group to pixels.

    bottom-up   x -> 3x3 stem -> cells, halved from scale to scale -> one feature for each group, read off as it climbs
    tail        the state below the last group -> cells, doubled from scale to scale -> swish -> 3x3 -> p(x | z)

Halving is a 3x3 convolution of stride 2, doubling a 1x1 convolution and nearest neighbours.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from vaebm.vae.nvae.cells import Cells, Convolution, Enlarge, encoder_cell
from vaebm.vae.nvae.hierarchy import Scale


class BottomUp(nn.Module):
    """(B, C, H, W) -> one feature for each group, in the order of the groups: the top first.

    There are `cells` residual cells for each group and for a scale without; `padding` pixels are repeated at the edges.
    """

    def __init__(
        self,
        channels: int,
        scales: Sequence[Scale],
        cells: int,
        padding: int,
        convolution: Convolution,
        recompute: bool,
    ) -> None:
        super().__init__()
        self.padding = padding
        climb = scales[::-1]
        self.stem = convolution(channels, climb[0].channels, 3)
        self.stacks = nn.ModuleList()
        self.read: list[bool] = []
        for i, scale in enumerate(climb):
            for _ in range(max(1, scale.groups)):
                stack = [encoder_cell(scale.channels, convolution) for _ in range(cells)]
                self.stacks.append(Cells(stack, recompute))
                self.read.append(scale.groups > 0)
            if i + 1 < len(climb):
                self.stacks.append(convolution(scale.channels, climb[i + 1].channels, 3, stride=2))
                self.read.append(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = functional.pad(x, (self.padding,) * 4, mode="replicate") if self.padding else x
        x = self.stem(x)
        features = []
        for stack, read in zip(self.stacks, self.read, strict=True):
            x = stack(x)
            if read:
                features.append(x)
        return features[::-1]


class Tail(nn.Module):
    """The state below the last group, (B, C, h, w), to the likelihood's raw output (B, outputs, H, W).

    There are `cells` of what `cell` makes at each scale, from that of the last group to the full size; `padding` pixels
    are cut off at the edges.
    """

    def __init__(
        self,
        scales: Sequence[Scale],
        outputs: int,
        cells: int,
        cell: Callable[[int], nn.Module],
        padding: int,
        convolution: Convolution,
        recompute: bool,
    ) -> None:
        super().__init__()
        self.padding = padding

        def stack(channels: int) -> Cells:
            return Cells([cell(channels) for _ in range(cells)], recompute)

        layers: list[nn.Module] = [stack(scales[0].channels)]
        for coarse, fine in pairwise(scales):
            layers += [Enlarge(coarse.channels, fine.channels, convolution), stack(fine.channels)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(scales[-1].channels, outputs, 3, padding=1)

    def forward(self, state: Tensor) -> Tensor:
        raw: Tensor = self.out(functional.silu(self.layers(state)))
        p = self.padding
        return raw[..., p : raw.shape[2] - p, p : raw.shape[3] - p] if p else raw
