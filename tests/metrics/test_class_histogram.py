"""Class shares: closed cases, agreement with the definition, errors that are as large as the spread of draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics import Measurement, class_gap, class_modes

LABELS = torch.arange(4).repeat(25)


def drawn(fractions: list[float], n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(torch.tensor(fractions), n, replacement=True, generator=generator)


def test_equal_shares() -> None:
    found = {"class_gap": class_gap(LABELS[:40], LABELS, 4)} | class_modes(LABELS[:40], LABELS, 4)
    assert found["class_gap"].value == 0.0
    assert found["modes_covered"].value == 4
    assert found["mode_kl"].value == pytest.approx(0.0, abs=1e-12)
    assert {(m.n, m.settings["reference_n"], m.settings["classes"]) for m in found.values()} == {(40, 100, 4)}


def test_a_class_that_is_never_made() -> None:
    samples = torch.tensor([0, 0, 1, 3])
    gap = class_gap(samples, LABELS, 4)
    assert gap.value == pytest.approx(0.25)
    assert gap.settings["largest_of"] in (0, 2)
    found = class_modes(samples, LABELS, 4)
    assert found["modes_covered"].value == 3
    assert found["mode_kl"].value == pytest.approx(0.5 * math.log(2.0))


def test_the_divergence_is_of_the_samples_from_the_data() -> None:
    samples, labels = torch.tensor([0] * 3 + [1]), torch.tensor([0] * 1 + [1])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert class_modes(samples, labels, 2)["mode_kl"].value == pytest.approx(expected)
    swapped = class_modes(torch.tensor([0, 1]), torch.tensor([0] * 3 + [1]), 2)["mode_kl"].value
    assert swapped == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))


@pytest.mark.parametrize(
    "measure",
    [
        lambda x: class_gap(x, LABELS, 4),
        lambda x: class_modes(x, LABELS, 4)["modes_covered"],
        lambda x: class_modes(x, LABELS, 4)["mode_kl"],
    ],
)
def test_standard_errors_are_calibrated(measure: Callable[[Tensor], Measurement]) -> None:
    measured = [measure(drawn([0.6, 0.3, 0.085, 0.015], 100, seed)) for seed in range(300)]
    spread = torch.tensor([m.value for m in measured]).std().item()
    claimed = torch.tensor([m.stderr**2 for m in measured]).mean().sqrt().item()
    assert 0.6 < claimed / spread < 1.4


def test_a_thousand_even_classes_by_chance() -> None:
    samples = torch.randint(1000, (26_000,), generator=torch.Generator().manual_seed(0))
    found = class_modes(samples, torch.arange(1000), 1000)
    assert found["modes_covered"].value == 1000
    assert found["modes_covered"].stderr < 0.02
    assert found["mode_kl"].value == pytest.approx(999 / 52_000, rel=0.2)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(InputError, match="1 of 5 classes have no label in the data"):
        class_modes(LABELS, LABELS, 5)
    with pytest.raises(InputError, match="beyond the 3"):
        class_gap(LABELS, LABELS, 3)
    with pytest.raises(InputError, match="give at least 2"):
        class_gap(LABELS[:1], LABELS, 4)
