"""The public doors of a model: what they take, what they refuse, and that they work wherever a caller's code runs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.test_vaebm import SHAPES, build, noise
from vaebm.distributions.likelihood import GaussianHead
from vaebm.energy import MLPEnergySettings
from vaebm.errors import InputError
from vaebm.models import VAEBM, VAEBMSettings

Door = Callable[[VAEBM, Any], Tensor]
DATA_DOORS: dict[str, Door] = {
    "encode": lambda model, x: model.encode(x),
    "energy": lambda model, x: model.energy(x, torch.zeros(len(x), 4)),
    "log_density": lambda model, x: model.log_density(x, torch.zeros(len(x), 4)),
}
CODE_DOORS: dict[str, Door] = {
    "energy": lambda model, z: model.energy(data(len(z)), z),
    "log_density": lambda model, z: model.log_density(data(len(z)), z),
}
NOISE_DOORS: dict[str, Door] = {
    "decode": lambda model, eps: model.decode(eps),
    "render": lambda model, eps: model.render(eps, "sample", generator()),
    "chains": lambda model, eps: model.chains(eps, generator()).position,
}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def data(n: int = 5, name: str = "images") -> Tensor:
    return 2 * torch.rand(n, *SHAPES[name], generator=generator()) - 1


def hierarchical(**more: object) -> VAEBM:
    """An NVAE with a flow to its codes."""
    settings = {
        "vae": {"kind": "nvae", "widths": [4, 6], "groups": [1, 2], "latents": 1, "expansion": 1},
        "energy": {
            "image": {"kind": "mlp", "hidden": [4], "fourier_features": 2},
            "latent": {"kind": "flow", "width": 8, "blocks": 1, "steps": 2},
        },
        "code_mixture": {"components": 2},
        "sampler": {"kind": "langevin", "steps": 2, "step_size": 0.01},
        **more,
    }
    return VAEBMSettings.model_validate(settings).build((1, 4, 4), generator()).eval()


ANY_MODEL: dict[str, Callable[[], VAEBM]] = {
    **{name: lambda name=name: build("images", name) for name in ("gaussian", "censored", "bernoulli")},  # type: ignore[misc]
    "logistic_mixture": lambda: build("points", "logistic_mixture"),
    "correction": lambda: build("points", "gaussian", energy={"latent": {"kind": "correction", "hidden": [4]}}),
    "batch_norm": lambda: hierarchical(
        vae={"kind": "nvae", "widths": [4], "groups": [2], "latents": 1, "norm": "batch"}
    ),
    "hierarchical": hierarchical,
    "fixed_codes": lambda: build("images", "censored", fix_codes=True),
    "chosen_start": lambda: build("images", "censored", init={"importance_samples": 3}),
}
any_model = pytest.mark.parametrize("name", ANY_MODEL)


def used(model: VAEBM) -> dict[str, Tensor]:
    """What every public door gives."""
    x = 2 * model.sample(3, subject="vae").to(model.dtype) - 1 if len(model.data_shape) == 3 else model.sample(3)
    z = model.encode(x)
    eps = model.start(3, generator())
    return {
        **{f"sample_{subject}": model.sample(3, seed=1, subject=subject) for subject in model.subjects},
        **{f"sample_{show}": model.sample(3, show=show) for show in ("sample", "mean", "denoised")},
        "encode": z,
        "energy": model.energy(x, z),
        "log_density": model.log_density(x, z),
        "decode": model.decode(eps),
        "noise_log_density": model.noise_log_density(eps),
        "base_log_density": model.base_log_density(eps),
        "log_weights": model.log_weights(eps),
        "chains": model.chains(eps, generator()).position,
    }


# Type


@pytest.mark.parametrize("door", DATA_DOORS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_any_precision_are_cast(door: str, dtype: torch.dtype) -> None:
    model, x = build("images", "gaussian"), data().to(dtype)
    result = DATA_DOORS[door](model, x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, DATA_DOORS[door](model, x.float()))


@pytest.mark.parametrize("door", DATA_DOORS)
def test_arrays_are_data_too(door: str) -> None:
    model, x = build("images", "gaussian"), data()
    expected = DATA_DOORS[door](model, x)
    for array in (x.numpy(), x.double().numpy(), x.numpy().astype(">f4"), np.flip(np.flip(x.numpy(), 0).copy(), 0)):
        torch.testing.assert_close(DATA_DOORS[door](model, array), expected)


@pytest.mark.parametrize("door", DATA_DOORS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: ((x + 1) * 127.5).to(torch.uint8), "uint8"),
        (lambda x: ((x + 1) * 127.5).to(torch.uint8).numpy(), "uint8"),
        (lambda x: x.tolist(), "list"),
        (lambda x: x.numpy().astype(str), "floats"),
        (lambda x: x[0], r"x\[None\]"),
        (lambda x: x[:, 0], "batch"),
        (lambda x: x[..., :-1], "8, 8"),
        (lambda x: x.permute(0, 2, 3, 1), "movedim"),
        (lambda x: x.repeat(1, 3, 1, 1), "1, 8, 8"),
        (lambda x: x.flatten(1), "1, 8, 8"),
        (lambda x: (x + 1) * 127.5, "127.5"),
        (lambda x: torch.where(x < -0.9, torch.nan, x), "finite"),
        (lambda x: torch.where(x < -0.9, torch.inf, x), "finite"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(door: str, wrong: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        DATA_DOORS[door](build("images", "gaussian"), wrong(data()))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("door", CODE_DOORS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda z: z[:, :-1], "4"),
        (lambda z: z[:, :1], "4"),  # would broadcast
        (lambda z: z[0], "4"),
        (lambda z: z[:, None], "4"),
        (lambda z: z.long(), "int64"),
        (lambda z: torch.full_like(z, torch.nan), "finite"),
    ],
)
def test_what_is_no_code_is_refused(door: str, wrong: Callable[[Tensor], Any], said: str) -> None:
    z = torch.randn(5, 4, generator=generator())
    with pytest.raises(InputError, match=said):
        CODE_DOORS[door](build("images", "gaussian"), wrong(z))
    model = build("images", "gaussian")
    torch.testing.assert_close(CODE_DOORS[door](model, z.double().numpy()), CODE_DOORS[door](model, z))


def test_one_code_a_data_point() -> None:
    model = build("images", "gaussian")
    for n in (1, 4):
        with pytest.raises(InputError, match="rows"):
            model.energy(data(5), torch.zeros(n, 4))
        with pytest.raises(InputError, match="rows"):
            model.log_density(data(n), torch.zeros(5, 4))
    with pytest.raises(InputError, match="encode"):
        model.log_density(data(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("door", NOISE_DOORS)
def test_noise_is_checked_and_cast(door: str) -> None:
    model = build("images", "gaussian")
    eps = noise(model)
    torch.testing.assert_close(NOISE_DOORS[door](model, eps.double().numpy()), NOISE_DOORS[door](model, eps))
    for wrong in (eps[:, :-1], eps[:, :4], eps[0], eps.long(), eps.tolist()):
        with pytest.raises(InputError):
            NOISE_DOORS[door](model, wrong)


# Range


def test_values_of_another_range_are_warned_about() -> None:
    model = build("images", "gaussian")
    for x, said in ((2.5 * data(), "reaches"), ((data() + 1) / 2, r"2 \* x - 1")):
        with pytest.warns(UserWarning, match=said) as warned:
            model.encode(x)
        assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.encode(data())
        build("points", "gaussian").encode(100 * data(name="points"))  # points are anywhere


# Numbers


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.int32, torch.tensor])
def test_whole_numbers_of_numpy_are_numbers(number: Callable[[int], Any]) -> None:
    model = build("points", "gaussian")
    assert torch.equal(model.sample(number(3), seed=number(7)), model.sample(3, seed=7))
    assert model.draw(number(3), generator()).shape[0] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 2.0},
        {"n": "2"},
        {"n": 0},
        {"n": None},
        {"n": 2, "seed": 0.5},
        {"n": 2, "seed": -1},
        {"n": 2, "seed": 2**64},
    ],
)
def test_what_is_no_whole_number_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=list(wrong)[-1]):
        build("points", "gaussian").sample(**wrong)


# Choices


@pytest.mark.parametrize("wrong", ["mixture", "VAEBM", "truth", ""])
def test_a_subject_that_does_not_exist_is_no_other_one(wrong: Any) -> None:
    model = build("points", "gaussian")
    for ask in (lambda: model.sample(2, subject=wrong), lambda: model.draw(2, generator(), wrong)):
        with pytest.raises(InputError, match="subject"):
            ask()


@pytest.mark.parametrize("wrong", ["samples", "Mean", ""])
def test_a_show_that_does_not_exist_is_no_other_one(wrong: Any) -> None:
    model = build("points", "gaussian")
    for ask in (lambda: model.sample(2, show=wrong), lambda: model.render(noise(model), wrong, generator())):
        with pytest.raises(InputError, match="show"):
            ask()


def test_other_choices_that_do_not_exist() -> None:
    model = build("points", "gaussian")
    with pytest.raises(InputError, match="target"):
        model.update_settings(model.settings.model_copy(update={"target": "released"}))
    with pytest.raises(InputError, match="scale"):
        GaussianHead("pixels", 0.3, censored=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="part"):
        model.settings.build((3,), generator(), VAE=model.vae)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="name"):
        VAEBM(model.vae, MLPEnergySettings(hidden=[4]).build((3,), generator()))  # type: ignore[arg-type]


# Where a caller's code runs


@any_model
def test_inference_mode_changes_nothing(name: str) -> None:
    model = ANY_MODEL[name]()
    expected = used(model)
    with torch.inference_mode():
        inside = used(model)
        built = ANY_MODEL[name]()
    for door, value in expected.items():
        torch.testing.assert_close(inside[door], value, msg=door)
    assert torch.equal(built.sample(2), model.sample(2))
    x = inside["decode"]  # made there, used outside, where it may ask for a gradient
    asked = model.encode(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy(x, asked).sum(), asked, allow_unused=True)
    assert gradient is None or gradient.isfinite().all()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@any_model
def test_the_default_type_is_nothing_to_a_model(name: str) -> None:
    model = ANY_MODEL[name]()
    expected = used(model)
    with default_dtype(torch.float64):
        inside, built = used(model), ANY_MODEL[name]()
        assert built.dtype == torch.float32
        assert built.sample(2).dtype == torch.float32
    for door, value in expected.items():
        assert inside[door].dtype == value.dtype, door
        torch.testing.assert_close(inside[door], value, msg=door)


@any_model
def test_a_model_in_double_precision_is_one_throughout(name: str) -> None:
    model = ANY_MODEL[name]()
    exact = ANY_MODEL[name]().double()
    exact.load_state_dict(model.state_dict())
    for door, value in used(exact).items():
        assert value.dtype == torch.float64, door
        assert value.isfinite().all(), door
    eps = model.start(4, generator())
    torch.testing.assert_close(
        exact.noise_log_density(eps.double()).float(), model.noise_log_density(eps), rtol=1e-3, atol=1e-3
    )


# Graphs


@any_model
def test_no_graph_unless_the_input_asks_for_one(name: str) -> None:
    model = ANY_MODEL[name]()
    for door, value in used(model).items():
        assert not value.requires_grad or door in ("noise_log_density", "base_log_density"), door
    x, z = data(name="images") if len(model.data_shape) == 3 else model.sample(5), None
    x = torch.nn.functional.interpolate(x, model.data_shape[1:]) if x.dim() == 4 else x
    z = model.encode(x)
    z.numpy()
    assert model.encode(x.clone().requires_grad_()).requires_grad
    asked = z.clone().requires_grad_()
    assert torch.autograd.grad(model.log_density(x, asked).sum(), asked)[0].abs().sum() > 0
    assert all(weight.grad is None for weight in model.parameters())
    with torch.no_grad():
        assert not model.energy(x, asked).requires_grad
