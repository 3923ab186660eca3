"""Where groups lie, for images of any size that can be halved often enough; and what is said of the others."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from vaebm.errors import InputError
from vaebm.vae import NVAESettings, elbo
from vaebm.vae.nvae.model import MAX_CODE, NVAE

CASES = [
    ((1, 28, 28), {"widths": [4, 6, 8], "groups": [2, 1]}, [(7, 7)] * 2 + [(14, 14)]),
    ((1, 28, 28), {"widths": [4, 6, 8, 8], "groups": [1, 2, 1], "padding": 2}, [(4, 4), (8, 8), (8, 8), (16, 16)]),
    ((3, 32, 32), {"widths": [4, 6], "groups": [3]}, [(16, 16)] * 3),
    ((3, 64, 64), {"widths": [4, 4, 6, 8], "groups": [1, 1, 1]}, [(8, 8), (16, 16), (32, 32)]),
    ((3, 64, 64), {"widths": [4] * 7, "groups": [1, 1]}, [(1, 1), (2, 2)]),
    ((2, 8, 20), {"widths": [4, 6, 8], "groups": [1, 1, 2]}, [(2, 5), (4, 10), (8, 20), (8, 20)]),
    ((1, 5, 7), {"widths": [4], "groups": [2], "kernel_size": 3}, [(5, 7)] * 2),
]


@pytest.mark.parametrize(("shape", "options", "sizes"), CASES, ids=lambda case: str(case) if len(case) == 3 else "")
def test_groups_lie_where_the_settings_say(
    shape: tuple[int, ...], options: dict[str, list[int]], sizes: list[tuple[int, int]]
) -> None:
    vae = NVAESettings.model_validate({"latents": 3, **options}).build(shape, torch.Generator().manual_seed(0))
    assert isinstance(vae, NVAE)
    assert vae.hierarchy.shapes == [(3, *size) for size in sizes]
    assert list(vae.group_sizes) == [f"z{i + 1}" for i in range(len(sizes))]
    assert vae.latent_dim == sum(3 * h * w for h, w in sizes) == sum(vae.group_sizes.values())
    assert vae.code_dim == min(3 * sizes[0][0] * sizes[0][1], MAX_CODE)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    bound = elbo(vae, x, torch.Generator().manual_seed(2))
    assert bound.kl.keys() == vae.group_sizes.keys()
    assert vae.encode(x).shape == (2, vae.latent_dim)
    made, z = vae.generate(torch.zeros_like(x), torch.zeros(2, vae.latent_dim))
    assert made.shape == x.shape
    assert z.shape == (2, vae.latent_dim)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 28, 28), {"widths": [4] * 4}, "multiples of 8, .* 28 x 28: set vae.padding=2, or give at most 3 widths"),
        ((3, 31, 31), {"widths": [4] * 3}, "multiples of 4, .* 31 x 31: give one width"),
        ((3, 30, 30), {"widths": [4] * 3, "padding": 2}, "34 x 34 with vae.padding=2: set vae.padding=1, or"),
        ((2,), {}, "needs images, but the data have shape .2,.: use vae.kind=mlp"),
    ],
)
def test_other_shapes_are_refused_with_what_to_set(
    shape: tuple[int, ...], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        NVAESettings.model_validate(options).build(shape, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [4], "groups": [1, 1]}, "groups names 2 scales, but widths only 1"),
        ({"groups": [0, 2]}, "at least 1"),
        ({"kernel_size": 4}, "should be 3, 5 or 7"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(options: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NVAESettings.model_validate(options)


def test_padding_shows_only_the_image() -> None:
    """The border that nets see repeats the image's own edge, and what they draw there is cut off."""
    vae = NVAESettings(widths=[4, 6], groups=[1], padding=1).build((1, 6, 6), torch.Generator().manual_seed(0))
    plain = NVAESettings(widths=[4, 6], groups=[1]).build((1, 8, 8), torch.Generator().manual_seed(0))
    plain.load_state_dict(vae.state_dict())
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = vae.encode(x)
    torch.testing.assert_close(z, plain.encode(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")))
    torch.testing.assert_close(vae.decode(z).center, plain.decode(z).center[..., 1:-1, 1:-1])
