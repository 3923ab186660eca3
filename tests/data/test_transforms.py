import pytest
import torch

from vaebm.data import to_display, to_model, to_uint8
from vaebm.errors import InputError


@pytest.mark.parametrize("levels", range(1, 256))
def test_every_stored_value_survives_the_round_trip(levels: int) -> None:
    values = torch.arange(levels + 1, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_model(values, levels), levels), values)


@pytest.mark.parametrize("levels", [1, 16, 255])
def test_black_and_white_are_the_ends_exactly(levels: int) -> None:
    x = to_model(torch.tensor([0, levels], dtype=torch.uint8), levels)
    assert x.tolist() == [-1.0, 1.0]
    assert x.dtype == torch.float32


def test_values_of_few_levels_stay_distinct_in_an_8_bit_file() -> None:
    stored = to_uint8(to_model(torch.arange(17, dtype=torch.uint8), levels=16))
    assert len(stored.unique()) == 17


def test_display_clamps_what_lies_beyond_the_ends() -> None:
    assert to_display(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_a_pixel_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"25\.00% of the pixel values are NaN"):
        to_uint8(torch.tensor([0.0, 1.0, float("nan"), -1.0]))
