"""The released algorithm's chain step at the paper's CIFAR-10 size, written plainly: one side of `chain_step.py`.

Modules in eager float32: convolution, batch normalisation and swish one after another, weights of the energy net
normalised in every pass, log p(z) + log p(x | z) - E(x) differentiated by autograd. Weights are random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

IMAGE = (3, 32, 32)
GROUPS, LATENTS, CHANNELS, EXPANSION = 30, 20, 256, 6
STEM, WIDTHS, HALVE = 128, [128, 128, 256, 256, 256, 256], [0, 2, 4]  # of the energy
STEP_SIZE = 8e-5


class SqueezeExcite(nn.Module):
    """x times a gate that has seen all of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // 16, 4)
        self.down, self.up = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(functional.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class DecoderCell(nn.Module):
    """x + 0.1 SE(BN(conv1x1(swish(BN(depthwise5x5(swish(BN(conv1x1(BN(x))))))))))."""

    def __init__(self, inputs: int, outputs: int, expansion: int, enlarge: bool = False) -> None:
        super().__init__()
        wide = inputs * expansion
        self.enlarge = enlarge
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (inputs, wide, wide, outputs))
        self.first = nn.Conv2d(inputs, wide, 1, bias=False)
        self.depthwise = nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False)
        self.last = nn.Conv2d(wide, outputs, 1, bias=False)
        self.excite = SqueezeExcite(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.enlarge:
            x = functional.interpolate(x, scale_factor=2)
        y = self.first(self.norms[0](x))
        y = self.depthwise(functional.silu(self.norms[1](y)))
        y = self.norms[3](self.last(functional.silu(self.norms[2](y))))
        return self.skip(x) + 0.1 * self.excite(y)


class Decoder(nn.Module):
    """Noise of every group and of the pixels to x, log p(z) and log p(x | z)."""

    def __init__(self) -> None:
        super().__init__()
        side = IMAGE[1] // 2
        self.begin = nn.Parameter(torch.randn(1, CHANNELS, side, side))
        between = [nn.Sequential(*(cell() for _ in range(2))) for _ in range(GROUPS - 1)]
        self.cells = nn.ModuleList(between)
        self.priors = nn.ModuleList(nn.Conv2d(CHANNELS, 2 * LATENTS, 1) for _ in range(GROUPS - 1))
        self.combine = nn.ModuleList(nn.Conv2d(CHANNELS + LATENTS, CHANNELS, 1) for _ in range(GROUPS))
        self.enlarge = nn.Sequential(
            DecoderCell(CHANNELS, CHANNELS // 2, 3, enlarge=True), DecoderCell(CHANNELS // 2, CHANNELS // 2, EXPANSION)
        )
        self.out = nn.Conv2d(CHANNELS // 2, 2 * IMAGE[0], 3, padding=1)

    def forward(self, eps_x: Tensor, eps_z: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        s = self.begin.expand(eps_x.shape[0], -1, -1, -1)
        log_z = torch.zeros(eps_x.shape[0])
        for group, eps in enumerate(eps_z):
            mu, log_sigma = torch.zeros_like(eps), torch.zeros_like(eps)
            if group:
                s = self.cells[group - 1](s)
                mu, log_sigma = soft_clamp(self.priors[group - 1](functional.elu(s))).chunk(2, dim=1)
            z = mu + log_sigma.exp() * eps
            log_z = log_z + log_normal(z, mu, log_sigma)
            s = self.combine[group](torch.cat([s, z], dim=1))
        mu, log_sigma = soft_clamp(self.out(functional.elu(self.enlarge(s)))).chunk(2, dim=1)
        log_sigma = (log_sigma.exp() + 0.01).log()
        x = mu + log_sigma.exp() * eps_x
        return x, log_z, log_normal(x, mu, log_sigma)


class NormalisedConv(nn.Module):
    """Weights g v / |v|, computed in every pass."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5)
        self.log_g, self.bias = nn.Parameter(torch.zeros(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.v.square().sum((1, 2, 3), keepdim=True).sqrt()
        weight = self.log_g.exp()[:, None, None, None] * self.v / norm
        return functional.conv2d(x, weight, self.bias, padding=weight.shape[2] // 2)


class EnergyBlock(nn.Module):
    """skip(x) + conv3x3(act(conv3x3(act(x)))), act = swish / 1.1, halved at its end or not."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.first, self.second = NormalisedConv(inputs, outputs, 3), NormalisedConv(outputs, outputs, 3)
        self.skip = NormalisedConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.silu(self.first(functional.silu(x) / 1.1)) / 1.1) + self.skip(x)
        return functional.avg_pool2d(y, 2) if self.halve else y


class Energy(nn.Module):
    """Stem, blocks, sum over pixels, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        inputs = [STEM, *WIDTHS[:-1]]
        self.stem = NormalisedConv(IMAGE[0], STEM, 3)
        self.blocks = nn.Sequential(
            *(EnergyBlock(a, b, i in HALVE) for i, (a, b) in enumerate(zip(inputs, WIDTHS, strict=True)))
        )
        self.out = nn.Linear(WIDTHS[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((functional.silu(self.blocks(self.stem(x))) / 1.1).sum((2, 3))).squeeze(1)


def cell() -> DecoderCell:
    return DecoderCell(CHANNELS, CHANNELS, EXPANSION)


def soft_clamp(raw: Tensor) -> Tensor:
    return 5 * torch.tanh(raw / 5)


def log_normal(x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return (-0.5 * ((x - mu) / log_sigma.exp()).square() - log_sigma - 0.919).sum((1, 2, 3))


class Released:
    """Chains of the released algorithm: `step` moves them, `gradient` is the energy net's alone."""

    def __init__(self, batch: int) -> None:
        self.decoder, self.energy = Decoder().eval().requires_grad_(False), Energy().eval().requires_grad_(False)
        side = IMAGE[1] // 2
        self.eps_x = torch.randn(batch, *IMAGE)
        self.eps_z = [torch.randn(batch, LATENTS, side, side) for _ in range(GROUPS)]
        self.x = torch.randn(batch, *IMAGE)

    def step(self) -> Tensor:
        noise = [eps.requires_grad_() for eps in (self.eps_x, *self.eps_z)]
        x, log_z, log_x = self.decoder(noise[0], noise[1:])
        gradients = torch.autograd.grad((log_z + log_x - self.energy(x)).sum(), noise)
        with torch.no_grad():
            noise = [
                eps + STEP_SIZE / 2 * gradient + STEP_SIZE**0.5 * torch.randn_like(eps)
                for eps, gradient in zip(noise, gradients, strict=True)
            ]
        self.eps_x, *self.eps_z = (eps.detach() for eps in noise)
        return self.eps_x

    def gradient(self) -> Tensor:
        x = self.x.detach().requires_grad_()
        return torch.autograd.grad(self.energy(x).sum(), x)[0]

    def flops(self) -> tuple[float, float]:
        """Of a forward pass of both nets, and of the energy net; a gradient costs as much again."""
        with torch.no_grad(), FlopCounterMode(display=False) as both:
            self.energy(self.decoder(self.eps_x, self.eps_z)[0])
        with torch.no_grad(), FlopCounterMode(display=False) as energy:
            self.energy(self.x)
        return both.get_total_flops(), energy.get_total_flops()
