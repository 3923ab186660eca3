"""Sprites that are drawn: every combination of factors once, and what each factor does to the image."""

from __future__ import annotations

import torch

from vaebm.data.sets.sprites import SIZES, SpritesSettings, draw


def sprite(shape: int = 1, scale: int = 2, x: int = 5, y: int = 5, shade: int = 2, size: int = 32) -> torch.Tensor:
    return draw(torch.tensor([[shape, scale, x, y, shade]]), size)[0, 0].double() / 255


def test_every_combination_is_in_one_split() -> None:
    data = SpritesSettings(size=8).load()
    factors = torch.cat([split.factors for split in data.splits.values()])
    assert len(factors) == len(factors.unique(dim=0)) == torch.tensor(SIZES).prod()
    assert {part: len(split) for part, split in data.splits.items()} == {
        "train": 5276,
        "test": 2000,
        "validation": 500,
    }
    assert data.factor_names == ("shape", "scale", "x", "y", "shade")
    for split in data.splits.values():
        assert torch.equal(split.labels, split.factors[:, 0])
        assert torch.equal(split.values, draw(split.factors, 8))
    assert torch.equal(data.train.values, SpritesSettings(size=8).load().train.values)


def test_shapes_have_their_areas() -> None:
    radius = 32 * (0.1 + 0.025 * 4)
    for shape, area in enumerate((4.0, torch.pi, 2.0)):
        assert abs(sprite(shape, scale=4).sum() / radius**2 - area) < 0.2


def test_factors_move_grow_and_shade() -> None:
    def centre(image: torch.Tensor) -> torch.Tensor:
        at = torch.arange(32).double() + 0.5
        return torch.stack([image.sum(0) @ at, image.sum(1) @ at]) / image.sum()

    assert torch.allclose(centre(sprite(x=0, y=11)), torch.tensor([8.0, 24.0]).double(), atol=0.1)
    assert torch.allclose(centre(sprite(x=11, y=0)), torch.tensor([24.0, 8.0]).double(), atol=0.1)
    areas = [sprite(scale=scale).sum() for scale in range(6)]
    assert areas == sorted(areas)
    assert [round(float(sprite(shade=shade).max()) * 3) for shade in range(3)] == [1, 2, 3]
    assert abs(sprite(x=0, y=0, scale=5).sum() - sprite(scale=5).sum()) < 2  # no sprite is cut off
