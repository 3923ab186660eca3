"""The energy as a list of terms: what may be one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaebm.energy import MLPEnergySettings, TotalEnergy
from vaebm.errors import InputError


@pytest.mark.parametrize("name", ["base", "forward", "terms", "training", "a.b", ""])
def test_a_name_that_a_module_cannot_have_is_refused(name: str) -> None:
    term = MLPEnergySettings(hidden=[4]).build((2,), torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="called"):
        TotalEnergy({name: term})


def test_a_term_that_is_no_energy_is_refused_and_not_left_out() -> None:
    with pytest.raises(InputError, match="Linear"):
        TotalEnergy({"image": nn.Linear(2, 1)})  # type: ignore[dict-item]
