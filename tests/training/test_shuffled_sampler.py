"""The order of training data: every row once an epoch, the same for any number of processes, at any resume."""

from __future__ import annotations

import pytest
import torch

from vaebm.training.shuffled_sampler import ShuffledSampler


@pytest.mark.parametrize("rows", [1, 3, 7, 10, 25])
def test_every_row_comes_once_an_epoch(rows: int) -> None:
    sampler = ShuffledSampler(10, seed=0)
    order = torch.cat([sampler.take(rows) for _ in range(10)])
    whole = order[: len(order) // 10 * 10].view(-1, 10)
    assert (whole.sort(dim=1).values == torch.arange(10)).all()
    assert rows == 1 or len(whole.unique(dim=0)) > 1  # another order each time


def test_position_is_all_that_a_resumed_run_needs() -> None:
    whole = ShuffledSampler(10, seed=1)
    expected = [whole.take(4) for _ in range(9)]
    resumed = ShuffledSampler(10, seed=1)
    for batch in expected[:5]:
        assert torch.equal(resumed.take(4), batch)
    later = ShuffledSampler(10, seed=1)
    later.position = resumed.position
    for batch in expected[5:]:
        assert torch.equal(later.take(4), batch)


def test_processes_share_every_batch() -> None:
    alone = ShuffledSampler(10, seed=2)
    together = [ShuffledSampler(10, seed=2, rank=rank, processes=3) for rank in range(3)]
    for _ in range(6):
        assert torch.equal(torch.cat([one.take(2) for one in together]), alone.take(6))


def test_seeds_share_no_order() -> None:
    assert not torch.equal(ShuffledSampler(100, seed=0).take(100), ShuffledSampler(100, seed=1).take(100))
