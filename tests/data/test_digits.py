import torch

from vaebm.data import IMAGES, DigitsSettings


def test_the_digits() -> None:
    data = DigitsSettings().load()
    assert (data.name, data.modality, data.shape) == ("digits", IMAGES, (1, 8, 8))
    assert (len(data.train), len(data.test)) == (1237, 360)
    assert data.validation is not None
    assert len(data.validation) == 200
    assert data.class_names == tuple("0123456789")
    assert data.train.values.dtype == torch.uint8
    assert data.train.values.unique().tolist() == list(range(17))
    assert data.train.all().min().item() == -1.0
    assert data.train.all().max().item() == 1.0
    assert abs(data.saturated_fraction - 0.58) < 0.01
    for word in ("1,797", "8 x 8", "1,237", "200", "360", "0 to 16", "58%"):
        assert word in data.description


def test_the_split_is_fixed_stratified_and_disjoint() -> None:
    first, again = DigitsSettings().load(), DigitsSettings().load()
    assert torch.equal(first.test.values, again.test.values)
    assert first.test.labels is not None
    assert first.train.labels is not None
    assert set(first.test.labels.bincount().tolist()) <= {35, 36, 37}
    held_out = {row.numpy().tobytes() for row in first.test.values}
    assert not any(row.numpy().tobytes() in held_out for row in first.train.values)


def test_validation_digits_come_from_the_training_part() -> None:
    without, data = DigitsSettings(validation=0).load(), DigitsSettings().load()
    assert without.validation is None
    assert data.validation is not None
    assert data.validation.labels is not None
    assert torch.equal(without.test.values, data.test.values)
    assert set(data.validation.labels.bincount().tolist()) <= {19, 20, 21}
    both = torch.cat([data.train.values, data.validation.values]).flatten(1)
    assert torch.equal(both.unique(dim=0, return_counts=True)[0], without.train.values.flatten(1).unique(dim=0))
    assert len(both) == len(without.train) == 1437
