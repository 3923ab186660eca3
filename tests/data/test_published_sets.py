"""The sets that have to be prepared, SVHN and dSprites, on small files of their layouts; dSprites on real ones too."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy.io import savemat

from vaebm.data import KINDS, PublishedSettings, arrays, manifest
from vaebm.data.prepare import prepare_set
from vaebm.data.sets.dsprites import DSpritesSettings
from vaebm.data.sets.lsun import LSUNChurch64Settings
from vaebm.data.sets.published import PicturesSettings
from vaebm.data.sets.svhn import SVHNSettings
from vaebm.errors import InputError

Real = Callable[[str], Path]


def picture(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(folder: Path, names: list[str], width: int, height: int) -> Path:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, width, height).save(folder / name)
    return folder


def message(kind: str, **settings: object) -> str:
    with pytest.raises(InputError) as caught:
        KINDS[kind](**settings).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", sorted(kind for kind, one in KINDS.items() if issubclass(one, PicturesSettings)))
def test_what_is_not_prepared_says_how_to(kind: str, tmp_path: Path) -> None:
    said = message(kind, root=str(tmp_path))
    assert f"{kind} is not prepared in {tmp_path / kind / 'prepared'}: get " in said
    assert f"`vaebm data prepare {kind} --from FOLDER`" in said


def test_celeba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"img_align_celeba/{i:06d}.jpg" for i in range(1, 31)]
    raw = save(tmp_path / "raw", names, 178, 218)
    partition = raw / "Eval" / "list_eval_partition.txt"
    partition.parent.mkdir()
    listed = [f"{Path(name).name} {0 if i < 20 else 1 if i < 25 else 2}" for i, name in enumerate(names)]
    partition.write_text("\n".join(listed) + "\n")
    root = str(tmp_path / "root")
    monkeypatch.setenv("VAEBM_DATA", root)
    out, _ = prepare_set("celeba64", raw)
    assert out == Path(root) / "celeba64" / "prepared"
    data = KINDS["celeba64"]().load()
    assert (data.shape, len(data.train), len(data.validation), len(data.test)) == ((3, 64, 64), 20, 5, 5)
    with Image.open(raw / names[25]) as image:
        expected = image.crop((19, 39, 159, 179)).resize((64, 64), Image.Resampling.BILINEAR)
    assert data.test.values[torch.tensor([0])][0].permute(1, 2, 0).tolist() == np.asarray(expected).tolist()
    assert KINDS["celeba64"](root=str(out)).load().name == "celeba64"
    assert f"{out} holds celeba64, not chairs" in message("chairs", root=str(out))
    wrong = {
        "lists 1 image that": [*listed, "000099.jpg 0"],
        "line 31 is no file name and a split": [*listed, "what"],
        "does not list images of all three splits": listed[:20],
    }
    for said, lines in wrong.items():
        partition.write_text("\n".join(lines))
        with pytest.raises(InputError, match=said):
            prepare_set("celeba64", raw, tmp_path / "other")
    partition.unlink()
    with pytest.raises(InputError, match=r"list_eval_partition\.txt is missing: get it from"):
        prepare_set("celeba64", raw, tmp_path / "other")
    (raw / "img_align_celeba.zip").write_bytes(b"half")
    with pytest.raises(InputError, match=r"img_align_celeba\.zip is damaged or another file"):
        prepare_set("celeba64", raw, tmp_path / "other")


def test_celebahq_is_split_by_number(tmp_path: Path) -> None:
    raw = save(tmp_path / "raw", [f"{i}.png" for i in range(20)], 20, 20)
    (raw / "readme.txt").write_text("x")
    prepare_set("celebahq256", raw, tmp_path / "out")
    data = KINDS["celebahq256"](root=str(tmp_path / "out"), bits=5).load()
    assert (data.shape, len(data.train), len(data.test), data.train.levels) == ((3, 256, 256), 18, 2, 31)
    last = picture(19, 20, 20).resize((256, 256), Image.Resampling.BILINEAR)
    assert data.test.values[torch.tensor([1])][0].permute(1, 2, 0).tolist() == (np.asarray(last) >> 3).tolist()


def test_churches_from_a_zip(tmp_path: Path) -> None:
    names = [f"church_outdoor_{part}/{i}.jpg" for part, n in (("train", 20), ("val", 4)) for i in range(n)]
    raw = save(tmp_path / "raw", names, 80, 70)
    with zipfile.ZipFile(tmp_path / "churches.zip", "w") as archive:
        for name in names:
            archive.write(raw / name, name)
    prepare_set("lsun_church64", tmp_path / "churches.zip", tmp_path / "out")
    data = KINDS["lsun_church64"](root=str(tmp_path / "out")).load()
    assert (data.shape, len(data.train), len(data.test)) == ((3, 64, 64), 20, 4)
    flat = save(tmp_path / "flat", [f"{i}.jpg" for i in range(40)], 70, 70)
    prepare_set("lsun_church64", flat, tmp_path / "out2")
    assert len(KINDS["lsun_church64"](root=str(tmp_path / "out2")).load().test) == 4
    few = save(tmp_path / "few", ["1.jpg", "2.jpg"], 70, 70)
    with pytest.raises(InputError, match="no file for the split 'test'"):
        prepare_set("lsun_church64", few, tmp_path / "out3")


def church_database(place: Path, part: str, images: int, *, packed: bool) -> Path:
    """A database as published, of one image more that is none; alone, or in its archive."""
    folder = place / f"church_outdoor_{part}_lmdb"
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as database, database.begin(write=True) as writing:
        for seed in range(images):
            file = BytesIO()
            picture(seed, 90, 70).save(file, "webp", lossless=True)
            writing.put(f"{seed:040x}".encode(), file.getvalue())
        writing.put(b"f" * 40, b"broken")
    if packed:
        with zipfile.ZipFile(place / f"{folder.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(folder / "data.mdb", f"{folder.name}/data.mdb")
            archive.write(folder / "lock.mdb", f"{folder.name}/lock.mdb")
        shutil.rmtree(folder)
    return folder


def test_churches_from_their_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MIN_FOR_PROCESSES", 1)
    monkeypatch.setattr(manifest, "BLOCK_BYTES", 3 * 64 * 64 * 8)
    raw = tmp_path / "raw"
    church_database(raw, "train", 20, packed=True)
    church_database(raw, "val", 4, packed=False)
    prepare_set("lsun_church64", raw, tmp_path / "out", workers=2)
    data = KINDS["lsun_church64"](root=str(tmp_path / "out")).load()
    assert (data.shape, len(data.train), len(data.test)) == ((3, 64, 64), 20, 4)
    expected = ImageOps.fit(picture(3, 90, 70), (64, 64), Image.Resampling.BILINEAR)
    for split in (data.train, data.test):
        assert split.values[torch.tensor([3])][0].permute(1, 2, 0).tolist() == np.asarray(expected).tolist()
    assert "2 files skipped" in data.description


def test_databases_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(raw: Path) -> str:
        with pytest.raises(InputError) as caught:
            prepare_set("lsun_church64", raw, tmp_path / "out")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    whole = church_database(tmp_path / "cut", "train", 8, packed=False) / "data.mdb"
    os.truncate(whole, whole.stat().st_size // 2)
    assert refused(tmp_path / "cut") == f"{whole} is truncated: get it whole, then try again"
    other = tmp_path / "other" / "church_outdoor_val_lmdb" / "data.mdb"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(10_000))
    assert f"{other} is no LMDB database or damaged" in refused(tmp_path / "other")
    church_database(tmp_path / "half", "train", 8, packed=True)
    archive = tmp_path / "half" / "church_outdoor_train_lmdb.zip"
    assert refused(archive) == f"{archive} is one of LSUN's databases: name the folder that holds them by --from"
    archive.write_bytes(archive.read_bytes()[:-100])
    assert f"{archive} is truncated or no zip archive" in refused(tmp_path / "half")
    with zipfile.ZipFile(archive, "w") as without:
        without.writestr("readme.txt", "x")
    assert f"{archive} holds no data.mdb" in refused(tmp_path / "half")


def test_what_is_missing_of_the_churches(tmp_path: Path) -> None:
    settings = LSUNChurch64Settings()
    train, val = settings.needed
    assert settings.missing(tmp_path) == [train, val]
    (tmp_path / val.name).touch()
    assert settings.missing(tmp_path) == [train]
    church_database(tmp_path, "train", 1, packed=False)
    assert settings.missing(tmp_path) == []
    save(tmp_path / "exported", ["1.webp"], 70, 70)
    assert settings.missing(tmp_path / "exported") == []


def test_chairs_are_held_out_whole(tmp_path: Path) -> None:
    names = [f"rendered_chairs/chair{c:02d}/renders/{i}.png" for c in range(20) for i in range(3)]
    raw = save(tmp_path / "raw", [*names, "rendered_chairs/all_chair_names.png"], 60, 60)
    prepare_set("chairs", raw, tmp_path / "out")
    data = KINDS["chairs"](root=str(tmp_path / "out")).load()
    assert (data.shape, len(data.train), len(data.test)) == ((3, 64, 64), 54, 6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images: get rendered_chairs"):
        prepare_set("chairs", tmp_path / "empty", tmp_path / "out2")


def test_sprites_keep_their_factors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 2, (60, 64, 64), dtype=np.uint8)
    factors = np.stack([np.zeros(60, int), *(generator.integers(0, 3, 60) for _ in range(5))], axis=1)
    name = DSpritesSettings().file
    np.savez_compressed(tmp_path / name, imgs=images, latents_classes=factors, metadata=np.array({"of": "objects"}))
    memory = DSpritesSettings(root=str(tmp_path)).load()
    assert (memory.shape, len(memory.train), memory.train.values.unique().tolist()) == ((1, 64, 64), 54, [0, 255])
    assert memory.factor_names == ("shape", "scale", "orientation", "x", "y")
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 7 * 4096)
    prepare_set("dsprites", tmp_path, tmp_path / "out")
    disk = DSpritesSettings(root=str(tmp_path / "out")).load()
    for part in ("train", "test"):
        here, there = getattr(memory, part), getattr(disk, part)
        assert torch.equal(here.all(), there.all())
        assert torch.equal(here.factors, there.factors)
        assert torch.equal(here.labels, here.factors[:, 0])
    np.savez_compressed(tmp_path / name, imgs=images, latents_classes=factors[:-1])
    assert "do not match" in message("dsprites", root=str(tmp_path))
    np.savez_compressed(tmp_path / name, imgs=images * 3, latents_classes=factors)
    assert "holds values above 1" in message("dsprites", root=str(tmp_path))
    np.savez_compressed(tmp_path / name, images=images)
    assert "has no `imgs` and `latents_classes`" in message("dsprites", root=str(tmp_path))
    assert "other.npz is missing: get other.npz from" in message("dsprites", root=str(tmp_path), file="other.npz")


def test_the_real_sprites(real: Real) -> None:
    real("dsprites")
    data = DSpritesSettings(file="dsprites_downsampled.npz").load()
    assert (len(data.train), len(data.test), data.shape) == (39_168, 4_608, (1, 64, 64))
    factors = torch.cat([split.factors for split in data.splits.values()])
    assert factors.amax(0).tolist() == [2, 5, 9, 15, 15]
    assert factors.unique(dim=0).shape[0] == 46_080
    assert data.saturated_fraction == 1.0


def test_the_grid_of_sprites_is_the_same_from_either_file(tmp_path: Path) -> None:
    """Of the published file every fourth orientation and every second position are kept, at half the size or whole."""
    columns = torch.cartesian_prod(*map(torch.arange, (1, 2, 1, 8, 4, 6))).numpy()
    images = np.random.default_rng(0).integers(0, 2, (len(columns), 64, 64), dtype=np.uint8)
    on_grid = ((columns[:, 1:] % [1, 1, 4, 2, 2]) == 0).all(1)
    for place, name, rows, strides in (
        ("full", DSpritesSettings().file, slice(None), 1),
        ("grid", "dsprites_downsampled.npz", on_grid, [1, 1, 1, 4, 2, 2]),
    ):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / name, imgs=images[rows], latents_classes=columns[rows] // strides)
    full, grid = (DSpritesSettings(root=str(tmp_path / place), grid=True).load() for place in ("full", "grid"))
    assert sum(map(len, full.splits.values())) == on_grid.sum() == 24
    for part in ("train", "test"):
        assert torch.equal(full.splits[part].values, grid.splits[part].values)
        assert torch.equal(full.splits[part].factors, grid.splits[part].factors)
    small = DSpritesSettings(root=str(tmp_path / "full"), grid=True, size=32)
    assert small.load().shape == small.shape == (1, 32, 32)
    means = full.train.values.double().reshape(-1, 1, 32, 2, 32, 2).mean((3, 5))
    assert (small.load().train.values - means).abs().max() <= 0.5
    assert torch.equal(small.load().train.factors, full.train.factors)


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 40), dtype=np.uint8)
    labels = (np.arange(40) % 10 + 1)[:, None]
    monkeypatch.setattr(
        SVHNSettings, "files", {part: replace(file, digest=None) for part, file in SVHNSettings.files.items()}
    )
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels})
    data = SVHNSettings(root=str(tmp_path), validation=10).load()
    assert (data.shape, len(data.train), len(data.validation), len(data.test)) == ((3, 32, 32), 30, 10, 40)
    assert data.test.values[7].tolist() == images[:, :, :, 7].transpose(2, 0, 1).tolist()
    assert data.test.labels[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    path = tmp_path / "test_32x32.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "test_32x32.mat is truncated or no MATLAB 5 file" in message("svhn", root=str(tmp_path), validation=10)
    savemat(path, {"X": images, "y": labels[:-1]})
    assert "has 39 labels for 40 images" in message("svhn", root=str(tmp_path), validation=10)
    savemat(path, {"X": images[:, :, 0], "y": labels})
    assert "holds no colour images" in message("svhn", root=str(tmp_path), validation=10)


@pytest.mark.parametrize("kind", sorted(kind for kind, one in KINDS.items() if issubclass(one, PublishedSettings)))
def test_noise_stands_in_for_what_is_not_there(kind: str) -> None:
    settings = KINDS[kind]()
    data = settings.stand_in(40)
    assert (data.name, data.shape, data.class_names) == (kind, settings.shape, settings.class_names)
    assert (len(data.train), len(data.test)) == (40, 20)
    assert data.train.batch(torch.arange(2)).x.shape == (2, *settings.shape)


def test_the_shapes_are_those_of_the_sets(real: Real) -> None:
    for kind in ("mnist", "fashion_mnist", "stacked_mnist", "cifar10"):
        root = real("mnist" if kind == "stacked_mnist" else kind).parent
        data = KINDS[kind](root=str(root)).load()
        assert (data.shape, data.class_names) == (KINDS[kind]().shape, KINDS[kind]().class_names)
