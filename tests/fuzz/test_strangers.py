"""Files of strangers, changed at random: each reader reads them, or refuses them in a line.

Few examples are tried unless the variable VAEBM_FUZZ says how many for each reader.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from vaebm.cli import main
from vaebm.data.arrays import open_arrays
from vaebm.data.files.archives import UnreadableImage, open_source
from vaebm.data.files.image import read_header, read_picture
from vaebm.data.samples import read_samples
from vaebm.data.sets.folder import FolderSettings
from vaebm.data.sets.mnist import read_idx
from vaebm.errors import InputError
from vaebm.experiment.recipe import load_recipe
from vaebm.experiment.run_directory import Run, load
from vaebm.experiment.train import train
from vaebm.report.page import write_report
from vaebm.training.checkpoint import Checkpoints
from vaebm.training.engine import Engine

EXAMPLES = int(os.environ.get("VAEBM_FUZZ", "10"))  # of each test
MAX_BYTES = 2**30  # that a reader may reserve, of memory that is not there before

PHASES = [phase for phase in Phase if phase.name != "shrink"]  # an example may take a second
FUZZ = settings(
    max_examples=EXAMPLES, phases=PHASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
SLOW = settings(FUZZ, max_examples=max(1, EXAMPLES // 5))  # of readers that take a second

RECIPE = """\
data: {kind: gaussians, side: 2, train_size: 200, test_size: 100, validation: 50}
vae: {kind: mlp, latent_dim: 2, hidden: [4], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 100}
energy: {image: {kind: mlp, hidden: [4]}, latent: {kind: correction, hidden: [4]}}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 2, batch_size: 8}
energy_stage:
  batch_size: 8
  latent: {iterations: 2, batch_size: 8}
  phases:
    ratio: {kind: density_ratio, iterations: 2, validate_every: 1}
    divergence: {kind: contrastive_divergence, iterations: 2, buffer: 16}
logging: {every: 1}
checkpoint: {every_seconds: 0, keep: 2}
threads: 1
"""

scalars = (
    st.sampled_from(
        [None, True, -1, 0, 1, 2, 10**6, 10**12, 2**63, 2**64, 1e308, float("nan"), float("inf"), "", "../x"]
    )
    | st.integers(-5, 5)
    | st.text(max_size=5)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a tree of JSON can be changed."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@st.composite
def changed_tree(draw: st.DrawFn, tree: Any, changes: int = 2) -> Any:
    """A tree of JSON with a value or two replaced, removed or added."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, changes))):
        *path, last = draw(st.sampled_from(list(places(tree)))) or (None,)
        if last is None:
            return draw(values)
        node = tree
        for key in path:
            node = node[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "remove":
            del node[last]
        elif how == "add" and isinstance(node, dict):
            node[draw(st.text(max_size=5))] = draw(values)
        else:
            node[last] = draw(values)
    return tree


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes, head: int = 2**16) -> bytes:
    """A file that is cut, flipped, shortened or lengthened, mostly near its beginning."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, min(len(changed), draw(st.sampled_from([64, head]))) - 1)))
        how = draw(st.sampled_from(["flip", "flip", "set", "cut", "insert", "remove"]))
        if how == "flip" and changed:
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "set":
            changed[place : place + 8] = draw(
                st.sampled_from([b"\xff" * 8, b"\0" * 8, b"99999999", b"\x7f" + b"\xff" * 7])
            )
        elif how == "cut":
            del changed[place:]
        elif how == "insert":
            changed[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            del changed[place : place + draw(st.integers(1, 16))]
    return bytes(changed)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and measured run of points, as it was before anybody changed it."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "recipe.yaml").write_text(RECIPE)
    run = train(folder / "recipe.yaml", folder / "run", device="cpu")
    assert main(["evaluate", str(run.path), "--n", "20", "--quiet", "--only", "elbo"]) == 0
    write_report(run, device="cpu")
    return run.path


@pytest.fixture
def fresh(stranger: Path, tmp_path: Path) -> Callable[[], Path]:
    """Gives a copy of the run, the same folder each time."""

    def copy() -> Path:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return shutil.copytree(stranger, tmp_path / "run")

    return copy


@pytest.fixture
def clean(tmp_path: Path) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Runs a reader, which may read or refuse in a line; with little memory, and nothing outside is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("as it was")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES, hard))

    def check(read: Callable[[], object]) -> None:
        try:
            read()
        except InputError as refusal:
            said = str(refusal)
        else:
            return
        assert 0 < len(said) < 2000

    yield check
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "as it was"}


Clean = Callable[[Callable[[], object]], None]
Fresh = Callable[[], Path]


@FUZZ
@given(data=st.data())
def test_config(data: st.DataObject, clean: Clean, stranger: Path, tmp_path: Path) -> None:
    model = shutil.copytree(stranger / "model", tmp_path / "model", dirs_exist_ok=True)
    config = json.loads((stranger / "model" / "config.json").read_text())
    if data.draw(st.booleans()):
        (model / "config.json").write_text(json.dumps(data.draw(changed_tree(config))))
    else:
        (model / "config.json").write_bytes(data.draw(changed_bytes(json.dumps(config).encode())))
    clean(lambda: load(model))


@FUZZ
@given(data=st.data())
def test_weights(data: st.DataObject, clean: Clean, stranger: Path, tmp_path: Path) -> None:
    model = shutil.copytree(stranger / "model", tmp_path / "model", dirs_exist_ok=True)
    content = (stranger / "model" / "model.safetensors").read_bytes()
    if data.draw(st.booleans()):
        (size,) = struct.unpack("<Q", content[:8])
        header = json.dumps(data.draw(changed_tree(json.loads(content[8 : 8 + size])))).encode()
        content = (
            struct.pack("<Q", data.draw(st.sampled_from([len(header), size, 2**40]))) + header + content[8 + size :]
        )
    else:
        content = data.draw(changed_bytes(content))
    (model / "model.safetensors").write_bytes(content)
    clean(lambda: load(model))


@FUZZ
@given(data=st.data())
def test_recipe(data: st.DataObject, clean: Clean, stranger: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    tree = yaml.safe_load((stranger / "recipe.yaml").read_text())
    if data.draw(st.booleans()):
        path.write_text(yaml.safe_dump(data.draw(changed_tree(tree))))
    else:
        path.write_bytes(data.draw(changed_bytes((stranger / "recipe.yaml").read_bytes())))
    clean(lambda: load_recipe(path))
    (tmp_path / "run").mkdir(exist_ok=True)
    shutil.copy(path, tmp_path / "run" / "recipe.yaml")
    clean(lambda: Run.open(tmp_path / "run"))


@FUZZ
@given(data=st.data())
def test_files_of_a_run(data: st.DataObject, clean: Clean, fresh: Fresh) -> None:
    run = fresh()
    name = data.draw(st.sampled_from(["metrics.jsonl", "data.json", "measurements.json"]))
    content = (run / name).read_bytes()
    if data.draw(st.booleans()):
        lines = [json.loads(line) for line in content.splitlines()] if name.endswith("l") else json.loads(content)
        changed = data.draw(changed_tree(lines))
        many = name.endswith("l") and isinstance(changed, list)
        (run / name).write_text("\n".join(map(json.dumps, changed)) if many else json.dumps(changed))
    else:
        (run / name).write_bytes(data.draw(changed_bytes(content)))
    opened = Run.open(run)
    for read in (opened.events, opened.history, opened.measurements, opened.data):
        clean(read)
    assert main(["inspect", str(run)]) in (0, 2)


@SLOW
@given(data=st.data())
def test_checkpoint(data: st.DataObject, clean: Clean, fresh: Fresh, tmp_path: Path) -> None:
    """Of the right checksum: only its maker can have changed it."""
    run = fresh()
    shutil.rmtree(run / "model")
    checkpoints = Checkpoints(run / "checkpoints", 9, Engine("cpu", 0, None, tmp_path))
    state = checkpoints.load_newest()
    assert state is not None
    key = data.draw(st.sampled_from(sorted(state)))
    if isinstance(state[key], torch.Tensor) or data.draw(st.booleans()):
        state[key] = data.draw(values)
    elif key == "model":
        weight = data.draw(st.sampled_from(sorted(state["model"])))
        state["model"][weight] = torch.zeros(data.draw(st.lists(st.integers(0, 3), max_size=3)))
    else:
        del state[key]
    checkpoints.save(99, state)
    clean(lambda: train(run, device="cpu"))


@SLOW
@given(data=st.data())
def test_stored_draws(data: st.DataObject, clean: Clean, fresh: Fresh) -> None:
    run = fresh()
    chosen = data.draw(st.sampled_from(sorted((run / "samples").rglob("*.safetensors"))))
    chosen.write_bytes(data.draw(changed_bytes(chosen.read_bytes())))
    clean(lambda: write_report(Run.open(run), device="cpu"))


@st.composite
def changed_tensor(draw: st.DrawFn, x: torch.Tensor) -> torch.Tensor:
    """Another shape, type or value."""
    how = draw(st.sampled_from(["flat", "fewer", "none", "type", "infinite", "more", "turned"]))
    if how == "type":
        return x.to(draw(st.sampled_from([torch.uint8, torch.bool, torch.int64, torch.float64, torch.bfloat16])))
    if how == "infinite":
        return torch.full_like(x, draw(st.sampled_from([torch.nan, torch.inf, -torch.inf])))
    if how == "turned":
        return x.transpose(0, -1).contiguous()
    return {"flat": x.flatten(), "fewer": x[1:], "none": x[:0], "more": x.unsqueeze(0)}[how]


@SLOW
@given(data=st.data())
def test_records_of_a_right_hash(data: st.DataObject, clean: Clean, fresh: Fresh) -> None:
    run = fresh()
    chosen = data.draw(st.sampled_from(sorted((run / "samples").rglob("*.safetensors"))))
    with safe_open(chosen, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    if data.draw(st.booleans()):
        changed = data.draw(changed_tree(about))
        about = (changed if isinstance(changed, dict) else {}) | {"model_sha256": about["model_sha256"]}
    else:
        name = data.draw(st.sampled_from(sorted(tensors)))
        value = tensors.pop(name)
        if data.draw(st.integers(0, 4)):
            tensors[data.draw(st.sampled_from([name, name, name, "other"]))] = data.draw(changed_tensor(value))
    save_file(tensors, chosen, {"about": json.dumps(about)})
    clean(lambda: write_report(Run.open(run), device="cpu"))


def _png(side: int, seed: int = 0, form: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


PICTURES = {form: _png(8, 1, form) for form in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")}
NAMES = [
    "a.png",
    "b/a.png",
    "../a.png",
    "/a.png",
    "b/../../a.png",
    "..\\a.png",
    "a\x00.png",
    "",
    ".",
    "a/",
    "caf\xe9.png",
]


@FUZZ
@given(data=st.data())
def test_picture(data: st.DataObject, clean: Clean) -> None:
    content = data.draw(changed_bytes(data.draw(st.sampled_from(sorted(PICTURES.items())))[1]))

    def read() -> None:
        try:
            read_header(lambda: io.BytesIO(content))
            read_picture(lambda: io.BytesIO(content), (8, 8))
        except UnreadableImage as reason:
            raise InputError(str(reason)) from None

    clean(read)


@FUZZ
@given(data=st.data())
def test_archive(data: st.DataObject, clean: Clean, tmp_path: Path) -> None:
    path = tmp_path / data.draw(st.sampled_from(["set.zip", "set.tar"]))
    members = {f"{i}.png": _png(8, i) for i in range(12)}
    members |= {data.draw(st.sampled_from(NAMES)): PICTURES["png"]} if data.draw(st.booleans()) else {}
    if path.suffix == ".zip":
        with zipfile.ZipFile(
            path, "w", data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        ) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name or "x"), content)
    else:
        with tarfile.open(path, "w") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name.replace("\x00", ""))
                member.size, member.type = (
                    len(content),
                    data.draw(st.sampled_from([tarfile.REGTYPE] * 9 + [tarfile.SYMTYPE])),
                )
                member.linkname = "../outside/kept"
                archive.addfile(member, io.BytesIO(content))
    if data.draw(st.booleans()):
        whole = path.read_bytes()
        changed = data.draw(
            changed_bytes(whole[::-1] if path.suffix == ".zip" else whole, 4096)
        )  # a zip ends in its index
        path.write_bytes(changed[::-1] if path.suffix == ".zip" else changed)

    def read() -> None:
        source = open_source(path)
        assert not any(".." in name.split("/") or name.startswith("/") for name in source.names())
        FolderSettings(root=str(path)).load()

    clean(read)


@FUZZ
@given(data=st.data())
def test_arrays(data: st.DataObject, clean: Clean, tmp_path: Path) -> None:
    """An .npz or .npy of images, with labels."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    labels = data.draw(
        st.sampled_from([np.arange(20) % 3, np.arange(20) * 1e9, np.array(["a", "b"] * 10), np.zeros(3)])
    )
    single = data.draw(st.booleans())
    path = tmp_path / ("a.npy" if single else "a.npz")
    npy = io.BytesIO()
    np.save(npy, images)
    content = npy.getvalue()
    if data.draw(st.booleans()):
        shape = data.draw(st.lists(st.sampled_from([-1, 0, 1, 3, 8, 20, 10**6, 10**12]), max_size=4))
        kind = data.draw(st.sampled_from(["|u1", "<f8", "|O", "<U9", "V4", "<M8[s]", "<c16", "nonsense"]))
        head = f"{{'descr': {kind!r}, 'fortran_order': {data.draw(st.booleans())}, 'shape': {tuple(shape)}, }}".encode()
        head = head.ljust(118 - 1) + b"\n"
        content = content[:8] + struct.pack("<H", len(head)) + head + content[128:]
    else:
        content = data.draw(changed_bytes(content, 128))
    if single:
        path.write_bytes(content)
    else:
        named = io.BytesIO()
        np.save(named, labels)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content)
            archive.writestr("labels.npy", named.getvalue())
    clean(lambda: read_samples(path, (1, 8, 8)))
    if not single:
        clean(lambda: open_arrays(path))
        clean(lambda: FolderSettings(root=str(path)).load())


@FUZZ
@given(data=st.data())
def test_idx(data: st.DataObject, clean: Clean, tmp_path: Path) -> None:
    import gzip

    content = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 4, 4) + bytes(32)
    changed = data.draw(changed_bytes(content))
    whole = gzip.compress(changed)
    (tmp_path / "a.gz").write_bytes(data.draw(changed_bytes(whole)) if data.draw(st.booleans()) else whole)
    clean(lambda: read_idx(tmp_path / "a.gz", 3))
