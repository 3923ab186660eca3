"""The top-down path of an NVAE through its groups of latents (Vahdat & Kautz 2020, Section 3).

    s_1 = a learned constant
    p(z_1) = N(0, I)                                     p(z_l | z_<l) = N(mu_p(s_l), sigma_p(s_l)^2)
    q(z_l | z_<l, x) = N(mu_p + sigma_p dmu, (sigma_p dsigma)^2),     dmu, dsigma from s_l and the feature of x
    s_l+1 = cells(s_l + conv(z_l)),                      enlarged where the next group is at a finer scale

With z_l = mu_p + sigma_p eps_l the posterior is N(dmu, dsigma^2) in the noise of its group, and the prior N(0, I):

    KL(q(z_l | z_<l, x) || p(z_l | z_<l)) = KL(N(dmu, dsigma^2) || N(0, I))

The published residual is mu_p + dmu, without the factor sigma_p; with it the divergence knows nothing of sigma_p, so
that a prior that becomes narrow does not make it explode.

Groups lie at scales, counted from the coarsest:

    full size  H x W        widths[0] channels        no latents here, or the last groups
               H/2 x W/2    widths[1]                 ...
    coarsest   H/2^n x ..   widths[n]                 groups[0] groups, the first of them the top

`groups` counts from the coarsest scale; finer scales that it does not reach only carry pixels there and back. A border
of `padding` pixels may be added around the image first.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.data.modality import IMAGES
from vaebm.distributions.gaussian import DiagonalGaussian, at_least_float32
from vaebm.errors import InputError
from vaebm.vae.nvae.cells import Cells, Convolution, Enlarge

MAX_LOG_SCALE = 5.0


class Scale(NamedTuple):
    """One resolution: its channels, its size, and how many groups of latents it holds."""

    channels: int
    height: int
    width: int
    groups: int


def scales(data_shape: tuple[int, ...], widths: Sequence[int], groups: Sequence[int], padding: int) -> list[Scale]:
    """Scales from the coarsest to the full size.

    Raises:
        InputError: the data are no images, or their size cannot be halved so often.
    """
    IMAGES.require(data_shape, "vae.kind=nvae", "vae.kind=mlp")
    height, width = (side + 2 * padding for side in data_shape[1:])
    divisor = 2 ** (len(widths) - 1)
    if height % divisor or width % divisor:
        raise InputError(
            f"vae.widths has {len(widths)} scales, so sides have to be multiples of {divisor}, but images are"
            f" {height} x {width}{f' with vae.padding={padding}' if padding else ''}: {_remedy(data_shape, widths)}"
        )
    counts = [0] * (len(widths) - len(groups)) + list(reversed(groups))  # from the full size down
    found = [Scale(channels, height >> i, width >> i, counts[i]) for i, channels in enumerate(widths)]
    return found[::-1]


def _remedy(data_shape: tuple[int, ...], widths: Sequence[int]) -> str:
    _, height, width = data_shape
    divisor = 2 ** (len(widths) - 1)
    padding = next(
        (p for p in range(1, divisor) if not ((height + 2 * p) % divisor or (width + 2 * p) % divisor)), None
    )
    most = next(n for n in range(len(widths), 0, -1) if not (height % 2 ** (n - 1) or width % 2 ** (n - 1)))
    fewer = f"give at most {most} widths" if most > 1 else "give one width"
    return fewer if padding is None else f"set vae.padding={padding}, or {fewer}"


def standard_like(mean: Tensor) -> DiagonalGaussian:
    """N(0, I), shaped as `mean`."""
    return DiagonalGaussian(torch.zeros_like(mean), torch.zeros_like(mean))


def _gaussian(raw: Tensor) -> DiagonalGaussian:
    mean, log_scale = at_least_float32(raw).chunk(2, dim=1)
    return DiagonalGaussian(mean, MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE))


class Group(nn.Module):
    """A group of latents (B, latents, h, w) beside a state (B, channels, h, w); the top's prior is N(0, I)."""

    def __init__(self, scale: Scale, latents: int, top: bool, convolution: Convolution) -> None:
        super().__init__()
        self.shape = (latents, scale.height, scale.width)
        self.prior_head = None if top else nn.Conv2d(scale.channels, 2 * latents, 1)
        self.merge = convolution(scale.channels, scale.channels, 1)
        self.posterior_head = nn.Conv2d(scale.channels, 2 * latents, 3, padding=1)
        self.spread = convolution(latents, scale.channels, 1)

    def prior(self, state: Tensor) -> DiagonalGaussian:
        """p(z_l | z_<l)."""
        if self.prior_head is None:
            return standard_like(at_least_float32(state.new_zeros(state.shape[0], *self.shape)))
        return _gaussian(self.prior_head(functional.silu(state)))

    def posterior_noise(self, state: Tensor, feature: Tensor) -> DiagonalGaussian:
        """N(dmu, dsigma^2): the law of eps_l under q(z_l | z_<l, x)."""
        return _gaussian(self.posterior_head(functional.silu(state + self.merge(feature))))

    def absorb(self, state: Tensor, z: Tensor) -> Tensor:
        """The state that knows z_l."""
        spread: Tensor = self.spread(z)
        return state + spread


Choice = Callable[[int, Group, Tensor], Tensor]  # number of the group from 0, the group, s_l -> z_l


class Hierarchy(nn.Module):
    """All groups, the top first. What z_l is at each, its caller chooses: noise, a posterior's draw, or given codes.

    In front of each group but the top there are `cells` of what `cell` makes for so many channels.
    """

    def __init__(
        self,
        scales: Sequence[Scale],
        latents: int,
        cells: int,
        cell: Callable[[int], nn.Module],
        convolution: Convolution,
        recompute: bool,
    ) -> None:
        super().__init__()
        top = scales[0]
        self.begin = nn.Parameter(torch.zeros(1, top.channels, top.height, top.width))
        self.groups, self.ways = nn.ModuleList(), nn.ModuleList()  # ways[l] leads from group l to group l + 1
        before = top
        for scale in scales:
            for _ in range(scale.groups):
                if len(self.groups):
                    way: list[nn.Module] = []
                    if scale is not before:
                        way.append(Enlarge(before.channels, scale.channels, convolution))
                    way += [cell(scale.channels) for _ in range(cells)]
                    self.ways.append(Cells(way, recompute))
                self.groups.append(Group(scale, latents, not len(self.groups), convolution))
                before = scale
        self.shapes = [group.shape for group in self.groups if isinstance(group, Group)]

    def forward(self, rows: int, choose: Choice) -> Tensor:
        """The state below the last group, for `rows` images."""
        state = self.begin.expand(rows, -1, -1, -1)
        for number, group in enumerate(self.groups):
            assert isinstance(group, Group)
            if number:
                state = self.ways[number - 1](state)
            state = group.absorb(state, choose(number, group, state))
        return state
