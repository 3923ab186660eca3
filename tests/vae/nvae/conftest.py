"""NVAEs small enough to look into."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaebm.nn.batch_norm import batch_norm_layers
from vaebm.nn.weight_norm import initialising_from_data
from vaebm.vae import NVAESettings
from vaebm.vae.nvae.hierarchy import Group
from vaebm.vae.nvae.model import NVAE


def some_images(shape: tuple[int, ...], n: int = 4, seed: int = 1) -> Tensor:
    """Values of [-1, 1], many of them at its ends."""
    return (1.5 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))).clamp(-1, 1)


def build(shape: tuple[int, ...] = (1, 8, 12), **options: object) -> NVAE:
    """As training may leave it: no prior standard but the top's, no group idle, norms far from the identity."""
    small = {"widths": [4, 6, 8], "groups": [1, 2, 1], "latents": 2, "expansion": 2}
    settings = NVAESettings.model_validate({**small, **options})
    vae = settings.build(shape, torch.Generator().manual_seed(0))
    assert isinstance(vae, NVAE)
    generator = torch.Generator().manual_seed(5)
    with initialising_from_data(vae):
        vae.reconstruct(some_images(shape, 8), generator)
    with torch.no_grad():
        for layer in batch_norm_layers(vae):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2.0, generator=generator)
        for group in vae.hierarchy.groups:
            assert isinstance(group, Group)
            for head in (group.prior_head, group.posterior_head):
                if head is not None:
                    head.weight.mul_(8.0)
    return vae


@pytest.fixture
def nvae() -> Callable[..., NVAE]:
    """A builder, by shape and options of the settings."""
    return build


@pytest.fixture
def images() -> Callable[..., Tensor]:
    """A drawer, by shape, number and seed."""
    return some_images
