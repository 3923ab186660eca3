import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from vaebm.data import Data, DataSettings, DigitsSettings, FolderSettings, GaussiansSettings, Split
from vaebm.errors import InputError

SETTINGS: TypeAdapter[DataSettings] = TypeAdapter(Data)


def test_images_come_out_in_model_range() -> None:
    split = Split(torch.tensor([[[[0, 8, 16]]], [[[16, 16, 0]]]], dtype=torch.uint8), levels=16)
    assert len(split) == 2
    assert split.all().flatten().tolist() == [-1.0, 0.0, 1.0, 1.0, 1.0, -1.0]
    assert torch.equal(split.batch(torch.tensor([1, 1, 0])).x, split.all()[[1, 1, 0]])


def test_points_come_out_as_they_are() -> None:
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Split(points).all(), points)
    assert torch.equal(Split(points).batch(torch.tensor([4, 0])).x, points[[4, 0]])


@pytest.mark.parametrize(
    ("values", "labels", "levels"),
    [
        (torch.zeros(3, 1, 8, 8), None, 255),
        (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), None, None),
        (torch.zeros(3, 2), None, 255),
        (torch.zeros(3, 2, dtype=torch.float64), None, None),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), None),
        (torch.zeros(3, 2), torch.zeros(3), None),
    ],
)
def test_what_does_not_belong_together_is_refused(values: torch.Tensor, labels: torch.Tensor, levels: int) -> None:
    with pytest.raises(InputError, match="give"):
        Split(values, labels, levels)


def test_the_kind_chooses_the_settings() -> None:
    assert SETTINGS.validate_python({"kind": "gaussians"}) == GaussiansSettings()
    assert SETTINGS.validate_python({"kind": "digits"}) == DigitsSettings()
    assert SETTINGS.validate_python({"kind": "folder", "root": "x", "size": 32}) == FolderSettings(root="x", size=32)


@pytest.mark.parametrize("settings", [{"kind": "cats"}, {"kind": "digits", "size": 3}, {"kind": "gaussians", "std": 0}])
def test_unknown_kinds_keys_and_impossible_values_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SETTINGS.validate_python(settings)


def test_dequantised_batches_round_to_what_was_stored() -> None:
    values = torch.arange(17, dtype=torch.uint8).repeat(500).reshape(500, 1, 1, 17)
    split = Split(values, levels=16, dequantise=True)
    rows = torch.arange(500)
    noisy = split.batch(rows, torch.Generator().manual_seed(0)).x - split.batch(rows).x
    assert float(noisy.abs().max()) <= 1 / 16
    n = noisy.numel()
    assert abs(float(noisy.mean())) < 4 * (1 / 16) / (3 * n) ** 0.5
    assert abs(float(noisy.square().mean()) * 3 * 16**2 - 1) < 4 / n**0.5
    assert torch.equal(split.batch(rows).x, split.all())
    assert torch.equal(Split(values, levels=16).batch(rows, torch.Generator().manual_seed(0)).x, split.all())
    again = split.batch(rows, torch.Generator().manual_seed(0)).x
    assert torch.equal(again, split.batch(rows, torch.Generator().manual_seed(0)).x)


def test_flipped_batches_hold_images_and_mirror_images() -> None:
    values = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4).expand(400, 1, 3, 4).contiguous()
    split, rows, generator = Split(values, levels=255, flip=True), torch.arange(400), torch.Generator()
    x, plain = split.batch(rows, generator.manual_seed(0)).x, split.batch(rows).x
    mirrored = (x == plain.flip(3)).flatten(1).all(1)
    assert bool((mirrored | (x == plain).flatten(1).all(1)).all())
    assert 150 < int(mirrored.sum()) < 250
    assert torch.equal(plain, split.all())
    assert torch.equal(x, split.batch(rows, generator.manual_seed(0)).x)
    assert FolderSettings(root="x", flip=True).split(values).flip


def test_counts_and_chunks() -> None:
    values = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(values, levels=255)
    assert split.counts().tolist() == [int((values == value).sum()) for value in range(256)]
    assert torch.equal(torch.cat(list(split.chunks(7))), split.all())


def test_labels_travel_with_their_values() -> None:
    labels = torch.tensor([3, 1, 2])
    split = Split(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), labels, levels=255)
    assert split.batch(torch.tensor([2, 0])).y.tolist() == [2, 3]
    assert Split(torch.zeros(3, 2)).batch(torch.tensor([2, 0])).y is None
