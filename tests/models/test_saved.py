"""Saved models: what comes back is what was saved, and what cannot be loaded says so in a line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from vaebm.distributions.mixture import GaussianMixture
from vaebm.errors import InputError
from vaebm.models import VAEBM, VAEBMSettings
from vaebm.models import saved as saved_module
from vaebm.models.saved import load_model
from vaebm.nn.weight_norm import initialise_from_data

RESIDUAL = {"kind": "residual", "stem": 4, "widths": [4, 8], "halve": [0]}
MODELS: dict[str, tuple[tuple[int, ...], dict[str, object]]] = {
    "points_fourier": (
        (2,),
        {
            "vae": {"kind": "mlp", "latent_dim": 3, "hidden": [8]},
            "energy": {"image": {"kind": "mlp", "hidden": [8], "fourier_features": 4}, "latent": {"kind": "mixture"}},
        },
    ),
    "images_residual": (
        (3, 9, 8),
        {
            "vae": {"kind": "conv", "latent_dim": 3, "widths": [8, 8], "likelihood": {"kind": "censored"}},
            "energy": {"image": RESIDUAL, "latent": {"kind": "correction", "hidden": [8]}},
            "target": "release",
            "show": "denoised",
        },
    ),
    "bernoulli": (
        (1, 8, 8),
        {
            "vae": {"kind": "mlp", "latent_dim": 3, "hidden": [8], "likelihood": {"kind": "bernoulli"}},
            "energy": {"latent": {"kind": "mixture"}},
        },
    ),
    "logistic_mixture": (
        (1, 8, 8),
        {
            "vae": {
                "kind": "mlp",
                "latent_dim": 3,
                "hidden": [8],
                "likelihood": {"kind": "logistic_mixture", "components": 2, "levels": 16},
            }
        },
    ),
}


def build(name: str) -> VAEBM:
    """As training leaves it: every weight and buffer moved from where it starts."""
    shape, settings = MODELS[name]
    common = {"sampler": {"kind": "langevin", "steps": 2, "step_size": 0.01}, "code_mixture": {"components": 3}}
    model = VAEBMSettings.model_validate({**common, **settings}).build(shape, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    if "image" in model.energy_net.terms:
        initialise_from_data(model.energy_net.terms["image"], torch.randn(8, *shape, generator=generator))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    factors = torch.linalg.cholesky(0.5 * torch.eye(3)).repeat(3, 1, 1)
    model.set_mixture(
        GaussianMixture(torch.tensor([0.2, 0.3, 0.5]).log(), torch.randn(3, 3, generator=generator), factors)
    )
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    build("points_fourier").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_what_comes_back_is_what_was_saved(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path / "model")
    before = torch.random.get_rng_state()
    loaded = VAEBM.from_pretrained(tmp_path / "model")
    assert torch.equal(before, torch.random.get_rng_state())
    assert isinstance(loaded, VAEBM)
    assert not loaded.training
    assert loaded.settings == model.settings
    assert loaded.data_shape == model.data_shape
    state = loaded.state_dict()
    assert set(state) == set(model.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value), key
        assert state[key].dtype == value.dtype
    for subject in ("vaebm", "vae", "vae_mixture"):
        assert torch.equal(loaded.sample(3, seed=1, subject=subject), model.sample(3, seed=1, subject=subject))  # type: ignore[arg-type]


def test_data_initialised_layers_stay_initialised(tmp_path: Path) -> None:
    build("images_residual").save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    initialise_from_data(loaded.energy_net.terms["image"], torch.ones(4, 3, 9, 8))
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in before.items())


def test_a_folder_is_json_and_safetensors(saved: Path) -> None:
    files = {path.name for path in saved.iterdir()}
    assert {"config.json", "model.safetensors"} <= files <= {"config.json", "model.safetensors", "README.md"}
    config = json.loads((saved / "config.json").read_text())
    assert config["data_shape"] == [2]
    assert config["vae"]["kind"] == "mlp"


def test_saving_again_replaces(saved: Path) -> None:
    build("bernoulli").save_pretrained(saved)
    assert VAEBM.from_pretrained(saved).settings.vae.likelihood.kind == "bernoulli"


def test_a_copy_elsewhere_is_the_same_model(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "elsewhere")
    first, second = VAEBM.from_pretrained(str(saved)), VAEBM.from_pretrained(str(tmp_path / "elsewhere"))
    assert torch.equal(first.sample(2), second.sample(2))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(InputError, match=name):
        VAEBM.from_pretrained(saved)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"data_shape": null}', '{"format": 2, "kind": "vaebm", "data_shape": [2]}', "\xff\xfe"],
)
def test_a_damaged_config_is_named(saved: Path, text: str) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        VAEBM.from_pretrained(saved)


@pytest.mark.parametrize("keep", [0, 4, 200])
def test_weights_cut_short_are_named(saved: Path, keep: int) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        VAEBM.from_pretrained(saved)


def test_weights_of_another_model_do_not_fit(saved: Path, tmp_path: Path) -> None:
    build("bernoulli").save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)
    with pytest.raises(InputError, match="different models"):
        VAEBM.from_pretrained(saved)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-folder", "/no/such/folder", "not a name/at/all"])
def test_a_name_that_leads_nowhere_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hub") as failure:
        VAEBM.from_pretrained(name, cache_dir=tmp_path)
    assert name in str(failure.value)
    assert "\n" not in str(failure.value)


def test_from_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def download(repo: str, file: str, revision: str | None = None) -> str:
        asked.append((repo, file, revision))
        return str(saved / file)

    monkeypatch.setattr(saved_module, "hf_hub_download", download)
    model = VAEBM.from_pretrained("somebody/digits", revision="v1")
    assert torch.equal(model.sample(2), VAEBM.from_pretrained(saved).sample(2))
    assert asked == [("somebody/digits", "config.json", "v1"), ("somebody/digits", "model.safetensors", "v1")]


def test_a_repository_without_weights_is_said(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repo: str, file: str) -> str:
        if file == "model.safetensors":
            raise LocalEntryNotFoundError("no such file")
        return str(saved / file)

    monkeypatch.setattr(saved_module, "hf_hub_download", download)
    with pytest.raises(InputError, match="hub"):
        VAEBM.from_pretrained("somebody/digits")


@pytest.mark.parametrize(
    "changes",
    [
        *({"data_shape": shape} for shape in ([1.5], ["a"], [-2], [0], [], [[1]], "abc", {"a": 1}, [2, 2], [10**30])),
        {"data_shape": [1, 10**9, 10**9]},
        {"kind": ["vaebm"]},
        {"kind": {}},
        {"latent_step_scale": float("inf")},
        {"vae": {"kind": "mlp", "latent_dim": 10**15, "hidden": [8]}},
        {"vae": {"kind": "mlp", "latent_dim": 10**40, "hidden": [8]}},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_a_hostile_config_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    build("points_fourier").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


def test_json_without_an_end_is_refused(tmp_path: Path) -> None:
    build("points_fourier").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="damaged"):
        load_model(tmp_path)
