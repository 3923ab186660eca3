"""Data passed as an array: what is taken, how it is read, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vaebm.data.sets.given import given_data
from vaebm.errors import InputError

IMAGES = np.random.default_rng(0).random((30, 1, 4, 4)).astype(np.float32)  # in [0, 1]


def test_held_out_images_have_the_range_of_the_others() -> None:
    """Held-out images without a value below 0 are in [-1, 1] too, where the training images are, and the reverse."""
    bright = np.abs(2 * IMAGES - 1)
    for train, held_out in [(2 * IMAGES - 1, bright), (bright, 2 * IMAGES - 1)]:
        _, data = given_data(train, held_out)
        np.testing.assert_allclose(data.train.all().numpy(), train, atol=1 / 255)
        np.testing.assert_allclose(data.test.all().numpy(), held_out, atol=1 / 255)


@pytest.mark.parametrize(
    "given",
    [
        IMAGES,
        IMAGES.astype(np.float64),
        IMAGES[:, 0],
        IMAGES.transpose(0, 2, 3, 1),
        torch.from_numpy(IMAGES).requires_grad_(),
        2 * IMAGES - 1,
        np.rint(IMAGES * 255).astype(np.uint8),
    ],
)
def test_the_same_images_in_any_form(given: Any) -> None:
    settings, data = given_data(given)
    assert settings.shape == [1, 4, 4]
    assert (len(data.train), len(data.test)) == (27, 3)
    torch.testing.assert_close(data.test.all(), torch.from_numpy(2 * IMAGES[9::10] - 1), atol=1 / 255 + 1e-6, rtol=0)


def test_half_precision_and_lists() -> None:
    assert given_data(torch.from_numpy(IMAGES).bfloat16())[1].shape == (1, 4, 4)
    assert given_data([[1.0, 2.0]] * 30)[1].shape == (2,)


@pytest.mark.filterwarnings("error")
def test_arrays_that_cannot_be_written_to() -> None:
    images = np.rint(IMAGES * 255).astype(np.uint8)
    images.flags.writeable = False
    assert given_data(images, images)[1].shape == (1, 4, 4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("given", "word"),
    [
        (IMAGES[:5], "at least"),
        (np.zeros((0, 1, 4, 4), np.float32), "neither"),
        (np.zeros((30, 0)), "neither"),
        (np.zeros(30), "neither"),
        (np.full((30, 2), "a"), "no numbers"),
        (IMAGES.astype(complex), "no numbers"),
        ([[1.0, 2.0]] * 30 + [[1.0]], "length"),
        (np.full((30, 2), np.nan), "finite"),
        (np.full((30, 2), 1e300), "float32"),
        (255 * IMAGES, "uint8"),
    ],
)
def test_what_is_no_data_is_refused(given: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        given_data(given)


def test_empty_held_out_data_are_refused() -> None:
    with pytest.raises(InputError, match="neither"):
        given_data(IMAGES, IMAGES[:0])
