"""The Inception network: against the golden file, and what distances on it make of damage that people see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from vaebm.data import Split
from vaebm.errors import InputError
from vaebm.metrics import frechet_distance, inception_features, inception_layer, pixel_features, real_features
from vaebm.metrics.inception import LAYERS, PUBLISHED, Convolution, Inception, Layer, find_weights, read_weights

TOLERANCE = 1e-5  # of features between 0 and 5; convolutions of other processors round otherwise
BFLOAT16_TOLERANCE = {64: 0.008, 192: 0.012, 768: 0.03}  # relative, of all features together


def state_of(layer: Layer) -> dict[str, Tensor]:
    """Random weights under the published names, whose batch norms do something."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    with torch.random.fork_rng():
        network = Inception(layer)
    for name, convolution in network.named_modules():
        if isinstance(convolution, Convolution):
            weight, outputs = convolution.weight, convolution.out_channels
            state[f"{name}.conv.weight"] = torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5
            state[f"{name}.bn.weight"] = 1.4 + 0.1 * torch.rand(outputs, generator=generator)
            state[f"{name}.bn.bias"] = 0.1 * torch.randn(outputs, generator=generator)
            state[f"{name}.bn.running_mean"] = 0.1 * torch.randn(outputs, generator=generator)
            state[f"{name}.bn.running_var"] = 1 + 0.1 * torch.rand(outputs, generator=generator)
    return state


def random_images(n: int = 3, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (n, channels, 16, 20), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def plain_features(images: Tensor, state: dict[str, Tensor]) -> dict[int, Tensor]:
    """The whole network once more, as a list of steps, unfolded and unfused."""

    def layer(x: Tensor, name: str, stride: int = 1, padding: int | tuple[int, int] = 0) -> Tensor:
        x = functional.conv2d(x, state[f"{name}.conv.weight"], None, stride, padding)
        norm = (state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *norm, eps=1e-3).relu()

    def branch(x: Tensor, block: str, *steps: tuple[str, int, int | tuple[int, int]]) -> Tensor:
        for name, stride, padding in steps:
            x = layer(x, f"{block}.{name}", stride, padding)
        return x

    def average(x: Tensor) -> Tensor:
        ones = functional.avg_pool2d(torch.ones_like(x), 3, 1, 1)
        return functional.avg_pool2d(x, 3, 1, 1) / ones

    found = {}
    x = functional.interpolate(images.float() / 255, (299, 299), mode="bilinear", align_corners=False) * 2 - 1
    x = layer(layer(layer(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, 1)
    x = functional.max_pool2d(x, 3, 2)
    found[64] = x.mean((2, 3))
    x = functional.max_pool2d(layer(layer(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), 3, 2)
    found[192] = x.mean((2, 3))
    double = (("branch3x3dbl_1", 1, 0), ("branch3x3dbl_2", 1, 1))
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = torch.cat(
            [
                branch(x, block, ("branch1x1", 1, 0)),
                branch(x, block, ("branch5x5_1", 1, 0), ("branch5x5_2", 1, 2)),
                branch(x, block, *double, ("branch3x3dbl_3", 1, 1)),
                branch(average(x), block, ("branch_pool", 1, 0)),
            ],
            1,
        )
    x = torch.cat(
        [
            branch(x, "Mixed_6a", ("branch3x3", 2, 0)),
            branch(x, "Mixed_6a", *double, ("branch3x3dbl_3", 2, 0)),
            functional.max_pool2d(x, 3, 2),
        ],
        1,
    )
    wide, tall = (0, 3), (3, 0)
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = branch(x, block, ("branch7x7_1", 1, 0), ("branch7x7_2", 1, wide), ("branch7x7_3", 1, tall))
        twice = branch(x, block, ("branch7x7dbl_1", 1, 0), ("branch7x7dbl_2", 1, tall), ("branch7x7dbl_3", 1, wide))
        twice = branch(twice, block, ("branch7x7dbl_4", 1, tall), ("branch7x7dbl_5", 1, wide))
        pooled = branch(average(x), block, ("branch_pool", 1, 0))
        x = torch.cat([branch(x, block, ("branch1x1", 1, 0)), seven, twice, pooled], 1)
    found[768] = x.mean((2, 3))
    three = branch(x, "Mixed_7a", ("branch3x3_1", 1, 0), ("branch3x3_2", 2, 0))
    seven = branch(x, "Mixed_7a", ("branch7x7x3_1", 1, 0), ("branch7x7x3_2", 1, wide), ("branch7x7x3_3", 1, tall))
    x = torch.cat([three, branch(seven, "Mixed_7a", ("branch7x7x3_4", 2, 0)), functional.max_pool2d(x, 3, 2)], 1)
    for block in ("Mixed_7b", "Mixed_7c"):
        three = branch(x, block, ("branch3x3_1", 1, 0))
        twice = branch(x, block, ("branch3x3dbl_1", 1, 0), ("branch3x3dbl_2", 1, 1))
        parts = [branch(x, block, ("branch1x1", 1, 0))]
        for y, name in ((three, "branch3x3_2"), (twice, "branch3x3dbl_3")):
            parts += [branch(y, block, (f"{name}a", 1, (0, 1))), branch(y, block, (f"{name}b", 1, (1, 0)))]
        pooled = average(x) if block == "Mixed_7b" else functional.max_pool2d(x, 3, 1, 1)
        x = torch.cat([*parts, branch(pooled, block, ("branch_pool", 1, 0))], 1)
    found[2048] = x.mean((2, 3))
    return found


@pytest.mark.parametrize("layer", [64, 192, 768])
def test_golden(real_data: Path, layer: Layer) -> None:
    golden = np.load(real_data / "inception" / "inception_golden.npz", allow_pickle=False)
    expected = torch.from_numpy(golden[f"features_{layer}"])
    found = inception_features(golden["images"], real_data / "inception", layer)
    assert (found.shape, found.dtype) == ((16, layer), torch.float32)
    assert (found - expected).abs().max() < TOLERANCE
    rounded = inception_features(golden["images"], real_data / "inception", layer, "bfloat16")
    assert (rounded - expected).norm() / expected.norm() < BFLOAT16_TOLERANCE[layer]


def test_bfloat16_is_the_same_where_it_is_emulated(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.load(real_data / "inception" / "inception_golden.npz")["images"][:4]).float()
    state, _ = read_weights(find_weights(real_data / "inception"))
    rows = []
    for multiplied in (True, False):
        monkeypatch.setattr("vaebm.metrics.inception.has_bfloat16", lambda _, found=multiplied: found)
        rows.append(Inception(768, state, "bfloat16")(images / 127.5 - 1))
    exact = Inception(768, state)(images / 127.5 - 1)
    emulated = (rows[1] - rows[0]).norm() / exact.norm()
    assert emulated < 0.2 * (rows[0] - exact).norm() / exact.norm()


def test_every_layer_is_the_network_written_plainly() -> None:
    state, images = state_of(2048), random_images()
    expected_rows = plain_features(images, state)
    for layer in LAYERS:
        expected = expected_rows[layer]
        found = Inception(layer, state)(images.float() / 255 * 2 - 1)
        assert found.shape == (3, layer)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4), layer


def test_the_distance_grows_with_damage(mnist: Callable[[str, int], Tensor], real_data: Path) -> None:
    features = inception_layer(768, real_data / "inception", "bfloat16")
    reference = features(mnist("train", 400))
    held_out = mnist("t10k", 200)
    damage = {"as it is": held_out, **damaged(held_out)}
    with pytest.warns(UserWarning, match="mostly bias"):
        distance = {name: frechet_distance(features(images), reference).value for name, images in damage.items()}
    assert distance["as it is"] < 0.1
    for name in ("noise 0.02", "blur", "inverted"):
        assert distance[name] > 1.5 * distance["as it is"], (name, distance)
    assert distance["noise 0.02"] < distance["inverted"]


def damaged(images: Tensor) -> dict[str, Tensor]:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    smooth = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), value=-1.0), 3, 1)
    return {
        "noise 0.005": images + 0.005 * noise,
        "noise 0.02": images + 0.02 * noise,
        "blur": images + 0.5 * (smooth - images),
        "inverted": -images,
    }


@pytest.mark.slow
def test_held_out_digits_have_the_known_distance(mnist: Callable[[str, int], Tensor], real_data: Path) -> None:
    """FID-768 of 5,000 against 10,000 is 0.0043 for any held-out digits; 0.016 for the first 5,000 of the file."""
    features = inception_layer(768, real_data / "inception", "bfloat16")
    reference, held_out = features(mnist("train", 10_000)), mnist("t10k", 5_000)
    floor = frechet_distance(features(held_out), reference).value
    assert 0.003 < floor < 0.006
    for name, images in damaged(held_out).items():
        assert frechet_distance(features(images), reference).value > 10 * floor, name


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of random weights, complete to 64 features, in a cache folder of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("VAEBM_DATA", raising=False)
    path = tmp_path / "vaebm" / "inception" / "pt_inception-2015-12-05-to-Mixed_6e.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(safetensors.torch.save(state_of(64)))
    return path


def test_features_see_what_files_hold(weights: Path) -> None:
    features = inception_layer(64, weights)
    stored = random_images(11, 1)
    images = stored.float() / 255 * 2 - 1
    rows = features(images)
    assert torch.equal(rows, features(images + 0.003))  # less than half a level
    assert torch.allclose(rows, features(images.expand(-1, 3, -1, -1)), atol=1e-6)
    assert torch.allclose(rows[3:5], features(images[3:5]), atol=1e-5)
    assert torch.allclose(rows, inception_features(stored.expand(-1, 3, -1, -1), weights, 64), atol=1e-6)
    assert inception_features(stored[:0].expand(-1, 3, -1, -1), weights, 64).shape == (0, 64)
    assert features.settings == {
        "features": "inception-64",
        "sha256": read_weights(weights)[1],
        "resize": "bilinear 299",
        "precision": "float32",
    }


def test_weights_are_found_by_path_then_data_folder_then_cache(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_weights() == find_weights(weights) == find_weights(weights.parent) == weights
    data = tmp_path / "data" / "inception"
    data.mkdir(parents=True)
    monkeypatch.setenv("VAEBM_DATA", str(data.parent))
    assert find_weights() == weights
    (data / PUBLISHED).write_bytes(b"")
    assert find_weights() == data / PUBLISHED
    with pytest.raises(InputError, match=r"no Inception weights at .*nowhere: give one of"):
        find_weights(tmp_path / "nowhere")
    weights.unlink()
    (data / PUBLISHED).unlink()
    with pytest.raises(InputError, match=r"no Inception weights in .*data/inception or .*: download https://"):
        find_weights()


def test_weights_in_pytorchs_format_are_read_as_plain_tensors(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state_of(64), path)
    images = random_images().expand(-1, 3, -1, -1)
    assert torch.equal(inception_features(images, path, 64), inception_features(images, weights, 64))
    torch.save({"network": Convolution(1, 1, 1)}, path)
    with pytest.raises(InputError, match="holds no plain weights"):
        read_weights(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match="more than weights"):
        read_weights(path)


def test_what_is_wrong_with_weights_is_said(weights: Path, tmp_path: Path) -> None:
    images = random_images()
    with pytest.raises(InputError, match=r"lack 'Conv2d_3b_1x1.conv.weight', which 768 features need"):
        inception_features(images, weights, 768)
    promised = tmp_path / PUBLISHED
    promised.write_bytes(weights.read_bytes())
    with pytest.raises(InputError, match="is damaged, its SHA-256 begins with"):
        read_weights(promised)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged or holds no plain weights: delete it and download"):
        read_weights(weights)
    weights.write_bytes(safetensors.torch.save(state_of(64) | {"Conv2d_2a_3x3.conv.weight": torch.zeros(1, 2, 3, 3)}))
    with pytest.raises(InputError, match=r"of shape \(1, 2, 3, 3\): \(32, 32, 3, 3\) is expected"):
        inception_features(images, weights, 64)


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8).byte(), torch.zeros(8, 8).byte()])
def test_other_images_are_refused(images: Tensor, weights: Path) -> None:
    with pytest.raises(InputError, match="repeat grey images to three channels"):
        inception_features(images, weights, 64)
    with pytest.raises(InputError, match="grey or colour images, and these have 2 channels"):
        inception_layer(64, weights)(torch.zeros(1, 2, 8, 8))
    with pytest.raises(InputError, match="no Inception layer of 100"):
        inception_layer(100, weights)  # type: ignore[arg-type]


def test_rows_of_real_images_are_computed_once(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, indices, done = Split(random_images(9), None, 255), torch.tensor([5, 1, 8]), []
    features = inception_layer(64, weights)
    rows = real_features(features, split, indices, done.append)
    assert torch.equal(rows, features(split.batch(indices).x))
    (kept,) = (tmp_path / "vaebm" / "features").iterdir()

    def never(_: Tensor) -> Tensor:
        raise AssertionError("computed again")

    known = replace(features, network=never)
    assert torch.equal(real_features(known, split, indices, done.append), rows)
    assert sum(done) == 6
    for other in (replace(known, further={}), replace(known, sha256="other"), replace(known, name="inception-192")):
        with pytest.raises(AssertionError, match="computed again"):
            real_features(other, split, indices)
    with pytest.raises(AssertionError, match="computed again"):
        real_features(known, split, indices.flip(0))
    kept.write_bytes(kept.read_bytes()[:-1])
    assert torch.equal(real_features(features, split, indices), rows)
    assert torch.equal(real_features(known, split, indices), rows)
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="features are not kept"):
        assert torch.equal(real_features(features, split, indices), rows)


def test_quick_features_leave_nothing_on_disk(weights: Path, tmp_path: Path) -> None:
    split = Split(random_images(9), None, 255)
    assert torch.equal(real_features(pixel_features(), split, torch.arange(4)), pixel_features()(split.all())[:4])
    assert not (tmp_path / "vaebm" / "features").exists()
