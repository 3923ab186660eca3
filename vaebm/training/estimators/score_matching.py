r"""Denoising score matching: the energy whose denoised images are the images (Vincent 2011; Saremi & Hyvarinen 2019).

    x~ = x + s n,   z ~ q(z | x)
    D(x~, z) = x~ + s^2 d/dx~ log[ N(x~; mu(z), sigma^2 + s^2) exp(-E(x~)) ]                  Tweedie's estimate
    L = mean over values of (D(x~, z) - x)^2 / s^2

E sees x~ alone, so L is least where dE/dx~ takes the decoder's score, averaged over z given x~, to that of data with
noise. No sample of the model is needed, L is bounded below, and its root is the denoised image's error in units of s.
What it does not tell is what lies where no data with noise do: scores there are made up, and long chains that get there
do not come back (docs/studies/images.md). A contrast with samples beside it mends that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaebm.distributions.likelihood import NoisyLikelihood
from vaebm.energy import TotalEnergy


def denoising_loss(energy: TotalEnergy, x: Tensor, noisy: Tensor, z: Tensor, likelihood: NoisyLikelihood) -> Tensor:
    """L, a scalar, of images x (B, C, H, W), of the same with noise, of z ~ q(z | x), and of p(. | z)."""
    noisy = noisy.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy.plain(noisy, z).sum(), noisy, create_graph=True)
    return ((likelihood.denoise(noisy.detach(), gradient) - x) / likelihood.noise).square().mean()
