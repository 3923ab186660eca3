"""Replay buffer: what is drawn, where it returns, and what survives a checkpoint."""

import pytest
import torch
from torch import Tensor

from vaebm.sampling import ReplayBuffer


def fresh(count: int) -> Tensor:
    return torch.full((count, 2), -1.0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def filled(capacity: int, generator: torch.Generator) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity)
    draw = buffer.draw(capacity, 1.0, lambda n: torch.arange(n).float()[:, None].expand(n, 2), generator)
    buffer.put(draw.position, draw.slots)
    return buffer


def test_an_empty_buffer_gives_fresh_positions_and_fills_up(generator: torch.Generator) -> None:
    buffer = ReplayBuffer(10)
    for stored in (4, 8, 10):
        draw = buffer.draw(4, 0.0, fresh, generator)
        assert not draw.reused.any()
        buffer.put(draw.position, draw.slots)
        assert len(buffer) == stored


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_replay_has_the_asked_probability(probability: float, generator: torch.Generator) -> None:
    buffer = filled(1000, generator)
    reused = [int(buffer.draw(100, probability, fresh, generator).reused.sum()) for _ in range(50)]
    spread = (5000 * probability * (1 - probability)) ** 0.5
    assert abs(sum(reused) - 5000 * probability) <= 4 * spread


def test_positions_return_to_their_slots(generator: torch.Generator) -> None:
    buffer = filled(20, generator)
    before = buffer.positions
    assert before is not None
    before = before.clone()
    draw = buffer.draw(8, 0.5, fresh, generator)
    assert len(draw.slots.unique()) == 8
    assert torch.equal(draw.position[draw.reused], before[draw.slots[draw.reused]])
    assert (draw.position[~draw.reused] == -1).all()
    buffer.put(draw.position + 100, draw.slots)
    after = buffer.positions
    assert after is not None
    assert torch.equal(after[draw.slots], draw.position + 100)
    untouched = torch.ones(20, dtype=torch.bool)
    untouched[draw.slots] = False
    assert torch.equal(after[untouched], before[untouched])


def test_a_checkpoint_restores_it(generator: torch.Generator) -> None:
    buffer = filled(6, generator)
    other = ReplayBuffer(9)
    other.load_state_dict(buffer.state_dict())
    assert len(other) == 6
    assert torch.equal(other.state_dict()["positions"], buffer.state_dict()["positions"])
    empty = ReplayBuffer(6)
    assert empty.state_dict() == {}
    other.load_state_dict(empty.state_dict())
    assert len(other) == 0
    with pytest.raises(ValueError, match="6 positions do not fit"):
        ReplayBuffer(5).load_state_dict(buffer.state_dict())


def test_refusals(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        ReplayBuffer(0)
    buffer = filled(4, generator)
    with pytest.raises(ValueError, match="cannot draw 5"):
        buffer.draw(5, 0.5, fresh, generator)
    with pytest.raises(ValueError, match=r"replay probability is 1\.5"):
        buffer.draw(1, 1.5, fresh, generator)
    with pytest.raises(ValueError, match=r"1 of 2 positions are not finite \(\[1\]\)"):
        buffer.put(torch.tensor([[0.0, 0.0], [torch.nan, 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="dimension 3"):
        buffer.put(torch.zeros(1, 3), torch.tensor([0]))


def test_the_age_of_chains_is_the_number_of_their_moves(generator: torch.Generator) -> None:
    buffer = ReplayBuffer(8)
    assert buffer.age == 0.0
    for moves in (1, 2, 3):
        draw = buffer.draw(8, 1.0, fresh, generator)
        buffer.put(draw.position, draw.slots)
        assert buffer.age == moves
    draw = buffer.draw(4, 0.0, fresh, generator)  # four begin anew
    buffer.put(draw.position, draw.slots)
    assert buffer.age == (4 * 3 + 4 * 1) / 8
    other = ReplayBuffer(8)
    other.load_state_dict(buffer.state_dict())
    assert other.age == buffer.age
