"""Checkpoints: whole or not there, refused when damaged, and a stopped disk costs only the newest."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vaebm.errors import InputError
from vaebm.files import write_atomically
from vaebm.training import checkpoint
from vaebm.training.checkpoint import Checkpoints, Tree, load_optimizer_state
from vaebm.training.engine import Engine

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers(0, 3), max_size=3).map(torch.rand)
    | st.sampled_from([torch.tensor(True), torch.arange(3), torch.tensor([1.5], dtype=torch.bfloat16)])
)
# {"tensor": ...} alone is the mark of a tensor; no state of ours has such a dict.
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3).filter(lambda tree: tree.keys() != {"tensor"})
    ),
    max_leaves=10,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (a != a and b != b)


def rank(number: int, processes: int) -> Any:
    """An engine that stands for one of several processes."""
    return SimpleNamespace(rank=number, world_size=processes, is_main=number == 0, wait=lambda: None, any=bool)


@pytest.fixture
def checkpoints(tmp_path: Path, engine: Engine) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", 3, engine)


def state(number: int) -> Tree:
    return {"iteration": number, "model": {"w": torch.full((50, 5), float(number)), "b.0": torch.arange(number)}}


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(st.text(), trees, max_size=3).filter(lambda tree: tree.keys() != {"tensor"}))
def test_what_is_saved_is_loaded(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("checkpoints"), 1, rank(0, 1))
    checkpoints.save(0, tree)
    assert same(checkpoints.load_newest(), tree)


def test_tensors_whose_paths_read_the_same_are_kept_apart(checkpoints: Checkpoints) -> None:
    tree = {"a": {"b.c": torch.tensor(1)}, "a.b": {"c": torch.tensor(2)}}
    checkpoints.save(0, tree)
    assert same(checkpoints.load_newest(), tree)


def test_layouts_and_shared_memory_do_not_matter(checkpoints: Checkpoints) -> None:
    images = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    tree = {"images": images, "part": images[:, 1], "turned": images.mT, "again": images}
    checkpoints.save(0, tree)
    assert same(checkpoints.load_newest(), tree)


def test_there_is_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.load_newest() is None
    assert checkpoints.names() == []


def test_the_newest_is_loaded_and_only_some_are_kept(checkpoints: Checkpoints) -> None:
    for number in (1, 2, 10, 100, 1000):
        checkpoints.save(number, state(number))
    assert checkpoints.names() == ["00000010", "00000100", "00001000"]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == checkpoints.names()
    assert same(checkpoints.load_newest(), state(1000))


def test_saving_an_iteration_again_replaces_it(checkpoints: Checkpoints) -> None:
    checkpoints.save(5, state(1))
    checkpoints.save(5, state(2))
    assert same(checkpoints.load_newest(), state(2))
    assert [path.name for path in checkpoints.folder.iterdir()] == ["00000005"]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped weights": lambda folder: flip(folder / "state-0.safetensors", -7),
    "flipped header": lambda folder: flip(folder / "state-0.safetensors", 3),
    "cut weights": lambda folder: (folder / "state-0.safetensors").write_bytes(b"\x10"),
    "no weights": lambda folder: (folder / "state-0.safetensors").unlink(),
    "no json": lambda folder: (folder / "state-0.json").unlink(),
    "cut json": lambda folder: (folder / "state-0.json").write_text('{"sha256": "'),
    "empty json": lambda folder: (folder / "state-0.json").write_text(""),
    "other json": lambda folder: (folder / "state-0.json").write_text("[1]"),
    "a number as json": lambda folder: (folder / "state-0.json").write_text("1"),
    "no text": lambda folder: (folder / "state-0.json").write_bytes(b"\xff\xfe"),
    "another iteration": lambda folder: (folder / "state-0.json").write_text(
        (folder / "state-0.json").read_text().replace('"iteration": 3', '"iteration": 4')
    ),
    "nothing": lambda folder: list(map(Path.unlink, folder.iterdir())),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_named_and_the_newest_that_is_whole_is_used(damage: str, checkpoints: Checkpoints) -> None:
    for number in (1, 2, 3):
        checkpoints.save(number, state(number))
    DAMAGES[damage](checkpoints.folder / "00000003")
    assert same(checkpoints.load_newest(), state(2))
    assert checkpoints.damaged == ["00000003"]
    assert checkpoints.names() == ["00000001", "00000002"]
    for number in (3, 4):
        checkpoints.save(number, state(number))
    assert same(checkpoints.load_newest(), state(4))
    assert checkpoints.damaged == []
    assert checkpoints.names() == ["00000002", "00000003", "00000004"]


@pytest.mark.parametrize("what", ["weights", "json", "both", "folder"])
def test_one_in_the_place_of_another_is_noticed(what: str, checkpoints: Checkpoints) -> None:
    for number in (1, 2, 3):
        checkpoints.save(number, state(number))
    older, newest = checkpoints.folder / "00000001", checkpoints.folder / "00000003"
    if what == "folder":
        shutil.rmtree(newest)
        older.rename(newest)
    for file in older.iterdir() if what != "folder" else ():
        if what in ("both", file.suffix.replace(".safetensors", "weights").strip(".")):
            shutil.copy(file, newest / file.name)
    assert same(checkpoints.load_newest(), state(2))
    assert checkpoints.damaged == ["00000003"]


def test_none_is_whole(checkpoints: Checkpoints) -> None:
    for number in (1, 2):
        checkpoints.save(number, state(number))
        flip(checkpoints.folder / f"{number:08d}" / "state-0.json", 80)
    with pytest.raises(InputError, match=r"00000002 is damaged, .* delete the checkpoints folder"):
        checkpoints.load_newest()
    assert checkpoints.names() == ["00000001", "00000002"]


def test_random_damages(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Cut, flipped or gone, a file or a whole checkpoint, the newest or the newest two."""
    chance = random.Random(0)
    for number in (1, 2, 3):
        checkpoints.save(number, state(number))
    for _ in range(200):
        tried = Checkpoints(shutil.copytree(checkpoints.folder, tmp_path / "tried"), 3, rank(0, 1))
        found = []
        for name in ["00000003", "00000002"][: chance.choice([1, 2])]:
            file = chance.choice(sorted((tried.folder / name).iterdir()))
            kind = chance.choice(["cut", "flip", "file", "folder"])
            if kind == "cut":
                os.truncate(file, chance.randrange(file.stat().st_size))
            elif kind == "flip":
                flip(file, chance.randrange(file.stat().st_size))
            elif kind == "file":
                file.unlink()
            else:
                shutil.rmtree(tried.folder / name)
            found.append((name, kind))
        assert same(tried.load_newest(), state(3 - len(found))), found
        assert tried.damaged == [name for name, kind in found if kind != "folder"]
        shutil.rmtree(tried.folder)


def test_a_disk_that_gives_back_something_else_is_noticed(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(1, state(1))

    def write(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        flip(path, len(content) // 2)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", write)
        with pytest.raises(OSError, match="check it"):
            checkpoints.save(2, state(2))
    assert same(checkpoints.load_newest(), state(1))
    assert checkpoints.names() == ["00000001"]


def test_every_flipped_byte_is_noticed(checkpoints: Checkpoints) -> None:
    checkpoints.save(3, {"iteration": 3, "w": torch.arange(3)})
    for file in (checkpoints.folder / "00000003").iterdir():
        for place in range(file.stat().st_size):
            flip(file, place)
            with pytest.raises(InputError, match="00000003"):
                checkpoints.load_newest()
            flip(file, place)
    assert same(checkpoints.load_newest(), {"iteration": 3, "w": torch.arange(3)})


def test_a_half_written_one_is_swept(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, state(1))
    for name in (".draft-00000002", ".draft-dropped-00000000"):
        (checkpoints.folder / name).mkdir()
        (checkpoints.folder / name / "state-0.safetensors").write_bytes(b"half")
    assert same(checkpoints.load_newest(), state(1))
    checkpoints.sweep()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["00000001"]


def test_a_half_written_one_does_not_spoil_the_next_of_its_name(checkpoints: Checkpoints) -> None:
    (checkpoints.folder / ".draft-00000001").mkdir(parents=True)
    (checkpoints.folder / ".draft-00000001" / "state-0.json").write_text("half")
    checkpoints.save(1, state(1))
    assert same(checkpoints.load_newest(), state(1))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", ["write_atomically", "rename", "rmtree"])
def test_a_disk_that_refuses_leaves_the_older_ones_whole(
    number: int, call: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    for iteration in (1, 2, 3):
        checkpoints.save(iteration, state(iteration))

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise OSError(number, "refused")

    with monkeypatch.context() as patch:
        target = {"rename": Path, "rmtree": shutil}.get(call, checkpoint)
        patch.setattr(target, call, refuse)
        with pytest.raises(OSError, match="refused"):
            checkpoints.save(4, state(4))
    last = 4 if call == "rmtree" else 3
    assert same(checkpoints.load_newest(), state(last))
    checkpoints.sweep()
    checkpoints.save(5, state(5))
    assert checkpoints.names()[-1] == "00000005"
    assert len(checkpoints.names()) == 3
    assert same(checkpoints.load_newest(), state(5))


def test_killed_anywhere_while_saving(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every single change of the disk, a process that begins there finds the old or the new state, whole."""
    checkpoints.save(7, state(1))
    found: list[int] = []

    def watched(function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            newest = Checkpoints(checkpoints.folder, 2, rank(0, 1)).load_newest()
            assert newest is not None
            found.append(newest["iteration"])
            return result

        return call

    monkeypatch.setattr(checkpoint, "write_atomically", watched(write_atomically))
    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    for path in ("unlink", "rmdir"):
        monkeypatch.setattr(os, path, watched(getattr(os, path)))
    for iteration in (8, 9, 10, 11):
        checkpoints.save(iteration, state(iteration))
    assert found == sorted(found)
    assert found[-1] == 11


def test_each_process_has_its_own_part(tmp_path: Path) -> None:
    parts = [Checkpoints(tmp_path, 2, rank(number, 2)) for number in (1, 0)]  # the first comes last and gives the name
    for part, number in zip(parts, (1, 0), strict=True):
        part.save(4, state(number))
    assert same(parts[0].load_newest(), state(1))
    assert same(parts[1].load_newest(), state(0))


@pytest.mark.parametrize(("wrote", "reads"), [(1, 2), (2, 1), (2, 3)])
def test_another_number_of_processes_goes_on(wrote: int, reads: int, tmp_path: Path) -> None:
    for number in reversed(range(wrote)):
        part = {**state(number), "generator": torch.arange(number)}
        Checkpoints(tmp_path, 2, rank(number, wrote)).save(4, part)
    for number in range(reads):
        loaded = Checkpoints(tmp_path, 2, rank(number, reads)).load_newest()
        assert loaded is not None
        noise = loaded.pop("generator", None)
        assert same(loaded, state(number % wrote))
        assert (noise is None) == (number >= wrote)


def test_write_synced_keeps_the_old_file_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_optimiser_goes_on_as_it_was(layout: torch.memory_format, checkpoints: Checkpoints) -> None:
    """Fused Adam reads weights and moments as they lie in memory, so their layouts must agree after a resume too."""

    def net() -> nn.Conv2d:
        made = nn.Conv2d(3, 5, 3)
        made.to(memory_format=layout)  # type: ignore[call-overload]
        generator = torch.Generator().manual_seed(0)
        for weight in made.parameters():
            weight.data.copy_(torch.randn(weight.shape, generator=generator))
        return made

    def steps(module: nn.Conv2d, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()

    def adam(module: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(module.parameters(), lr=0.1, betas=(0.9, 0.95), fused=True)

    whole, first, second = net(), net(), net()
    steps(whole, adam(whole), 0, 6)
    before, after = adam(first), adam(second)
    steps(first, before, 0, 3)
    checkpoints.save(0, {"adam": before.state_dict(), "net": first.state_dict()})
    saved = checkpoints.load_newest()
    assert saved is not None
    second.load_state_dict(saved["net"])
    load_optimizer_state(after, saved["adam"])
    steps(second, after, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    for weight, moments in after.state.items():
        assert moments["exp_avg"].stride() == weight.stride()


def test_a_checkpoint_of_another_format_is_refused_in_a_sentence(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    Checkpoints(tmp_path / "checkpoints", 3, engine).save(7, {"iteration": 7})
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"format 1, .* reads format 3: .* --out"):
        Checkpoints(tmp_path / "checkpoints", 3, engine).load_newest()
