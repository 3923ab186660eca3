"""The engine in one process; several are in test_processes.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from vaebm.errors import InputError
from vaebm.progress import on_terminal, silent
from vaebm.training.engine import Engine, fastest_device, threads


@pytest.mark.parametrize("name", ["cuda:7", "abacus", "", "cpu:x"])
def test_a_device_that_is_not_there(name: str, tmp_path: Path) -> None:
    for refused in (fastest_device, lambda name: Engine(name, 0, None, tmp_path)):
        with pytest.raises(InputError, match=rf"no device {name!r}.* use cpu"):
            refused(name)


def test_the_cpu_is_there(engine: Engine) -> None:
    assert fastest_device("cpu") == torch.device("cpu")
    assert engine.device == torch.device("cpu")
    assert (engine.rank, engine.world_size, engine.is_main) == (0, 1, True)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), threads(before + 1):
        raise KeyError
    with threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


def test_one_process_has_the_whole_batch(engine: Engine) -> None:
    assert [engine.per_process(n) for n in (1, 2, 7)] == [1, 2, 7]


def test_one_process_averages_nothing(engine: Engine) -> None:
    net = nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    assert net.weight.grad is not None
    before = net.weight.grad.clone()
    engine.average_gradients(net.parameters())
    assert torch.equal(net.weight.grad, before)
    engine.average_gradients([nn.Parameter(torch.ones(2))])  # without a gradient
    assert engine.average({"a": 1.0, "b": -2.0}) == {"a": 1.0, "b": -2.0}
    assert engine.any(True) is True
    assert engine.any(False) is False
    engine.synchronise(net)
    engine.wait()
    assert engine.first(lambda: 3) == 3


def test_seeds_and_processes_have_their_own_streams(tmp_path: Path) -> None:
    def draw(seed: int) -> torch.Tensor:
        return torch.rand(4, generator=Engine("cpu", seed, None, tmp_path).generator)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_a_tracker_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"logging.tracker=aim needs a package that is not installed"):
        Engine("cpu", 0, "aim", tmp_path)


def test_a_tracker_hears_of_every_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    engine = Engine("cpu", 0, "tensorboard", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    engine.start_tracker(silent())
    engine.track({"vae/loss": 1.0}, 1, silent())
    engine.close()
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))


def test_a_tracker_that_fails_is_dropped_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine("cpu", 0, None, tmp_path)

    def refuse(*arguments: object, **keywords: object) -> None:
        raise BrokenPipeError("gone")

    monkeypatch.setattr(engine._accelerator, "log", refuse)
    engine.track({"loss": 1.0}, 1, on_terminal())
    assert "gone" in capsys.readouterr().err
    engine.close()
