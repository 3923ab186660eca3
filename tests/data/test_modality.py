import numpy as np
import pytest
import torch

from vaebm.data import IMAGES, POINTS, ROWS, modality_of
from vaebm.errors import InputError


def test_the_shape_decides() -> None:
    assert modality_of((1, 8, 8)) is IMAGES
    assert modality_of((2,)) is POINTS
    assert modality_of((1, 8)) is ROWS
    with pytest.raises(InputError, match="neither images"):
        modality_of((8, 8))


def test_images_are_shown_and_stored_as_people_have_them() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(2, 2, 1, 1)
    assert IMAGES.to_user(x).flatten().tolist() == [0.0, 0.5, 1.0, 1.0]
    (images,) = IMAGES.arrays(x).values()
    assert (images.shape, images.dtype) == ((2, 1, 1, 2), np.uint8)
    assert images.flatten().tolist() == [0, 128, 255, 255]


def test_points_stay_as_they_are() -> None:
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert POINTS.to_user(x) is x
    (points,) = POINTS.arrays(x.double()).values()
    assert points.dtype == np.float32
    assert np.array_equal(points, x.numpy())


def test_rows_are_vectors_that_their_columns_decode() -> None:
    x = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    assert ROWS.to_user(x) is x
    (rows,) = ROWS.arrays(x).values()
    assert np.array_equal(rows, x[:, 0].numpy())
