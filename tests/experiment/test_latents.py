"""Sheets of latents: their rows are what they say, and files hold them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vaebm.errors import InputError
from vaebm.experiment.latents import (
    Sheet,
    interpolate,
    latents_by_information,
    reconstruct,
    traverse,
    walk,
    write_sheet,
)
from vaebm.models import VAEBM, VAEBMSettings

SIZE = (1, 6, 5)


def model_of(joint: bool = False) -> VAEBM:
    energy = {"joint": {"kind": "mlp", "hidden": [8]}} if joint else {"image": {"kind": "mlp", "hidden": [8]}}
    settings = VAEBMSettings.model_validate(
        {
            "vae": {"kind": "mlp", "latent_dim": 3, "hidden": [8], "likelihood": {"kind": "censored"}},
            "energy": energy,
            "sampler": {"kind": "underdamped", "steps": 4, "step_size": 0.2},
        }
    )
    model = settings.build(SIZE, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for term in model.energy_net.terms.values():
            for weight in term.out.parameters():  # type: ignore[union-attr]
                weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def images(n: int) -> Tensor:
    return 2 * torch.rand(n, *SIZE, generator=torch.Generator().manual_seed(2)) - 1


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("joint", [False, True])
def test_reconstructions_stand_below_their_data(joint: bool) -> None:
    model, x = model_of(joint), images(4)
    sheet = reconstruct(model, x, generator())
    assert sheet.rows == ["data", "VAE", "model"]
    assert sheet.values.shape == (3, 4, *SIZE)
    assert torch.equal(sheet.values[0], x)
    torch.testing.assert_close(sheet.values[1], model.likelihood(model.encode(x)).center)
    assert (sheet.values[2] - sheet.values[1]).abs().mean() > 0.01
    assert torch.equal(sheet.values[2], reconstruct(model, x, generator()).values[2])


def test_a_line_between_codes_begins_and_ends_at_the_inputs() -> None:
    model, x = model_of(), images(3)
    sheet = interpolate(model, x, 5, generator())
    assert sheet.values.shape == (4, 5, *SIZE)
    assert [row.split(",")[0] for row in sheet.rows] == ["VAE", "model", "VAE", "model"]
    z = model.encode(x)
    for row, pair in ((0, z[:2]), (2, z[1:])):
        ends_and_middle = model.likelihood(torch.stack([pair[0], pair.mean(0), pair[1]])).center
        torch.testing.assert_close(sheet.values[row][[0, 2, 4]], ends_and_middle)
    for wrong in ((x[:1], 5), (x, 2)):
        with pytest.raises(InputError):
            interpolate(model, *wrong, generator())


def test_a_walk_goes_on_from_column_to_column() -> None:
    sheet = walk(model_of(), images(2), 3, generator())
    assert sheet.values.shape == (2, 3, *SIZE)
    assert all((sheet.values[:, i] - sheet.values[:, i + 1]).abs().max() > 0 for i in range(2))


def test_latents_come_by_their_information() -> None:
    model, x = model_of(), images(50)
    *_, last = (layer for layer in model.vae.modules() if isinstance(layer, nn.Linear) and layer.out_features == 6)
    with torch.no_grad():
        last.weight[1].mul_(20)
        last.weight[[0, 2, 3, 5]] = 0.0
        last.bias.zero_()
    order = latents_by_information(model, x, generator())
    assert order[0][0] == 1
    assert [round(nats, 6) for _, nats in order[1:]] == [0.0, 0.0]


def test_a_traversal_varies_one_latent_and_holds_it() -> None:
    model, x = model_of(), images(1)
    sheet = traverse(model, x, [(2, 1.5), (0, 0.1)], 3, 2.0, generator())
    assert sheet.values.shape == (4, 3, *SIZE)
    assert "latent 2 (1.50 nats)" in sheet.rows[0]
    z = model.encode(x).repeat(3, 1)
    z[:, 2] = torch.tensor([-2.0, 0.0, 2.0])
    torch.testing.assert_close(sheet.values[0], model.likelihood(z).center)
    for columns, reach, latent in ((1, 2.0, 0), (3, 0.0, 0), (3, 2.0, 9)):
        with pytest.raises(InputError):
            traverse(model, x, [(latent, 0.0)], columns, reach, generator())


def test_files_hold_the_sheet(tmp_path: Path) -> None:
    sheet = Sheet(images(6).unflatten(0, (2, 3)), ["VAE", "VAEBM"])
    with np.load(write_sheet(sheet, tmp_path / "a.npz")) as arrays:
        assert arrays["images"].shape == (2, 3, 6, 5, 1)
        assert list(arrays["rows"]) == ["VAE", "VAEBM"]
        stored = arrays["images"]
    with Image.open(write_sheet(sheet, tmp_path / "a.png")) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * 7 - 1, 3 * 6 - 1)
    assert np.array_equal(pixels[7:, 6:11], stored[1, 1, ..., 0])
    with Image.open(write_sheet(sheet, tmp_path / "film" / "a.gif")) as film:
        assert getattr(film, "n_frames", 1) == 3
        assert film.size == (5, 2 * 7 - 1)
    with pytest.raises(InputError, match=r"\.png"):
        write_sheet(sheet, tmp_path / "a.jpg")
    points = Sheet(torch.zeros(2, 3, 2), ["VAE", "VAEBM"])
    with np.load(write_sheet(points, tmp_path / "p.npz")) as arrays:
        assert arrays["points"].shape == (2, 3, 2)
    with pytest.raises(InputError, match="npz"):
        write_sheet(points, tmp_path / "p.png")
