from __future__ import annotations

import math

import pytest
import torch

from vaebm.data import DigitsSettings
from vaebm.errors import InputError
from vaebm.metrics import pixels_between_ends
from vaebm.metrics import saturation as module


def test_values_are_rounded_to_the_stored_levels() -> None:
    values = torch.tensor([-1.0, -0.999, -0.99, 0.0, 0.99, 0.999, 1.0, 1.5])
    images = values.reshape(1, 1, 2, 4).repeat(2, 1, 1, 1)
    assert pixels_between_ends(images).value == pytest.approx(3 / 8)  # ± 0.99 is a level from the end, ± 0.999 is not
    assert pixels_between_ends(images, levels=16).value == pytest.approx(1 / 8)
    assert pixels_between_ends(images, levels=16).settings == {"levels": 16}


def test_stored_images_have_the_share_that_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = DigitsSettings().load()
    measured = pixels_between_ends(digits.train.all(), 16)
    assert measured.value == pytest.approx(1 - digits.saturated_fraction)
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 100)
    assert pixels_between_ends(digits.train.all(), 16) == measured


def test_the_error_is_over_images() -> None:
    images = torch.full((4, 1, 2, 2), -1.0)
    images[:2] = 0.0
    measured = pixels_between_ends(images)
    assert (measured.value, measured.n) == (0.5, 4)
    assert measured.stderr == pytest.approx(math.sqrt(1 / 3) / 2)


def test_what_are_no_images_is_refused() -> None:
    with pytest.raises(InputError, match="n at least 2"):
        pixels_between_ends(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="NaN"):
        pixels_between_ends(torch.full((2, 1, 8, 8), math.nan))
