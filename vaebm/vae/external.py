"""A VAE trained elsewhere: its encoder and its decoder, taken as they are.

    q(z | x) = N(m(x), s(x)^2)        the encoder gives m and log s^2, in one tensor, two, or a named pair
    p(z)     = N(0, I)                what such VAEs are trained with; a mixture fitted to the codes corrects it
    p(x | z) = a Gaussian, censored or not, about the decoder's output

Most decoders give one image and no scale. The likelihood's scale is then given or fitted on data by maximum
likelihood, with encoder and decoder left alone: one number (`likelihood.scale: global`), or an *adapter*, two
convolutions that read the decoder's image and give every value its own mean and scale (`likelihood.scale: pixel`):

    (mu, log sigma) = (y, 0) + net(y),      y the decoder's output, net 0 before it is fitted

Nothing is unpickled and no code is fetched: whoever loads such a model builds the two modules and passes them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vaebm.data.modality import modality_of
from vaebm.distributions.gaussian import DiagonalGaussian, at_least_float32
from vaebm.distributions.likelihood import CensoredSettings, GaussianSettings, Likelihood
from vaebm.errors import InputError, check_choice
from vaebm.files import user_path
from vaebm.nn.initialise import initialise
from vaebm.vae.base import MAX_CODE, VAE, FlatVAE, VAESettings

EncoderReturns = Literal["mean_log_variance", "mean_log_std", "mean"]
MEAN_NAMES = ("embedding", "mean", "mu", "loc")
SCALE_NAMES: dict[EncoderReturns, tuple[str, ...]] = {
    "mean_log_variance": ("log_covariance", "logvar", "log_var", "log_variance"),
    "mean_log_std": ("log_std", "log_scale"),
    "mean": (),
}
IMAGE_NAMES = ("reconstruction", "sample", "recon_x", "x")
WIDTH = 32  # of the adapter
LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "image": partial(nn.Conv2d, kernel_size=3, padding=1),
    "points": nn.Linear,
}  # of the adapter, by modality
LIKELIHOODS: dict[str, GaussianSettings | CensoredSettings] = {
    "image": CensoredSettings(),
    "points": GaussianSettings(),
}


class ExternalSettings(VAESettings):
    """A VAE that somebody else's code builds: what a saved model says of it."""

    kind: Literal["external"] = Field("external", description="a VAE trained elsewhere")
    latent_dim: int = Field(ge=1, description="how many numbers a code has")
    sha256: str = Field("", description="of the weights of encoder and decoder, so that another VAE is noticed")
    likelihood: GaussianSettings | CensoredSettings = Field(
        CensoredSettings(), discriminator="kind", description="p(x | z) about the decoder's output"
    )

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator) -> VAE:
        raise InputError(
            "this model's VAE was trained elsewhere and is not in the folder: build it as before and pass it, as in"
            ' vaebm.load(run, vae=vae) or VAEBM.from_pretrained(folder, parts={"vae": vae})'
        )


class ExternalVAE(FlatVAE):
    """Somebody else's encoder and decoder as a VAE of this library.

    Args:
        encoder: x (B, *data_shape) in `data_range` to q(z | x): a tensor of mean and scale along axis 1, a pair of
            tensors, or a mapping or object that names them, as pythae's and diffusers' encoders return.
        decoder: z (B, *latent_shape) to the image in `data_range`: a tensor, or a mapping or object that names it.
        data_shape: (C, H, W) or (dim,).
        latent_shape: of one code as the decoder takes it, such as (16,) or (4, 8, 8).
        encoder_returns: what stands beside the mean; "mean" for an autoencoder without a scale.
        data_range: the values that black and white have for the two modules; models of this library see [-1, 1].
        latent_scale: the decoder takes latent_scale * z; about the standard deviation of the codes.
        likelihood: kind and scale of p(x | z), by default censored with a scale for each pixel, of points Gaussian;
            `initial_scale` is sigma where it is not fitted.
        seed: of the adapter's initial weights.

    Raises:
        InputError: the modules do not fit the shapes, or have no float32 weights; the message says what came out.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        data_shape: tuple[int, ...],
        latent_shape: tuple[int, ...],
        *,
        encoder_returns: EncoderReturns = "mean_log_variance",
        data_range: tuple[float, float] = (-1.0, 1.0),
        latent_scale: float = 1.0,
        likelihood: GaussianSettings | CensoredSettings | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("encoder_returns", encoder_returns, get_args(EncoderReturns))
        low, high = data_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"data_range is {data_range}: pass the values of black and white, such as (0.0, 1.0)")
        if not (math.isfinite(latent_scale) and latent_scale > 0):
            raise InputError(f"latent_scale is {latent_scale}: pass a number above 0; 1.0 leaves codes as they are")
        _check_weights(encoder, decoder)
        if (modality := modality_of(data_shape).name) not in LIKELIHOODS:
            raise InputError(f"data_shape is {tuple(data_shape)}: pass (C, H, W) of images, or (dim,) of points")
        head = likelihood or LIKELIHOODS[modality]
        latent_shape = tuple(latent_shape)
        with torch.inference_mode(False):
            super().__init__(tuple(data_shape), torch.Size(latent_shape).numel(), encoder, decoder, head.build())
            per_value = self.likelihood.outputs_per_value > 1
            self.adapter = _Adapter(self.data_shape, torch.Generator().manual_seed(seed)) if per_value else None
        self.code_dim = min(self.latent_dim, MAX_CODE)  # codes beyond these keep their prior
        self.latent_shape, self.encoder_returns = latent_shape, encoder_returns
        self.data_range, self.latent_scale = data_range, latent_scale
        self.settings = ExternalSettings(latent_dim=self.latent_dim, likelihood=head)
        self.eval()
        self._check_shapes()

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        middle, half = self._range()
        mean, scale = _mean_and_scale(self.encoder(middle + half * x), self.encoder_returns)
        mean = at_least_float32(mean).flatten(1) / self.latent_scale
        if scale is None:
            return DiagonalGaussian(mean, torch.full_like(mean, -7.0))
        log_scale = at_least_float32(scale).flatten(1)
        if self.encoder_returns == "mean_log_variance":
            log_scale = log_scale / 2.0
        return DiagonalGaussian(mean, (log_scale - math.log(self.latent_scale)).clamp(-7.0, 3.0))

    def decode(self, z: Tensor) -> Likelihood:
        return self.likelihood_of(self.image(z))

    def likelihood_of(self, image: Tensor) -> Likelihood:
        """p(x | z) of the decoder's output (B, *data_shape), in [-1, 1]."""
        likelihood: Likelihood = self.likelihood(image if self.adapter is None else self.adapter(image))
        return likelihood

    def image(self, z: Tensor) -> Tensor:
        """The decoder's output for z (B, latent_dim), in [-1, 1]."""
        middle, half = self._range()
        image = _image(self.decoder((self.latent_scale * z).unflatten(1, self.latent_shape)))
        return (at_least_float32(image) - middle) / half

    def fitted(self) -> list[nn.Parameter]:
        """What is fitted on data: the likelihood's scale, and the adapter where there is one."""
        return [*self.likelihood.parameters(), *([] if self.adapter is None else self.adapter.parameters())]

    def nets(self) -> list[nn.Module]:
        return [self.encoder, self.decoder]

    def sha256(self) -> str:
        """Of names, shapes and weights of encoder and decoder, which do not change here."""
        digest = hashlib.sha256()
        for net in self.nets():
            for name, value in net.state_dict().items():
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def _range(self) -> tuple[float, float]:
        """Middle and half of `data_range`; values of [-1, 1] then pass without rounding."""
        low, high = self.data_range
        return (low + high) / 2.0, (high - low) / 2.0

    @torch.no_grad()
    def _check_shapes(self) -> None:
        like = next((weight for net in self.nets() for weight in net.parameters()), torch.zeros(()))
        x = torch.zeros(2, *self.data_shape, device=like.device)
        mean = _outcome("encoder", x, lambda: self.posterior(x).mean)
        if mean.shape != (2, self.latent_dim):
            raise InputError(
                f"the encoder gives codes of {mean.shape[1:].numel()} numbers, but latent_shape {self.latent_shape} has"
                f" {self.latent_dim}: correct latent_shape, or encoder_returns={self.encoder_returns}"
            )
        image = _outcome("decoder", mean, lambda: self.image(mean))
        if image.shape != x.shape:
            raise InputError(
                f"the decoder gives {tuple(image.shape[1:])}, but data_shape is {self.data_shape}: correct data_shape"
            )


class _Adapter(nn.Module):
    """y to (y + shift, offset of log sigma), (B, C, ...) to (B, 2C, ...); 0 before it is fitted."""

    def __init__(self, data_shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        layer = LAYERS[modality_of(data_shape).name]
        first, last = layer(data_shape[0], WIDTH), layer(WIDTH, 2 * data_shape[0])
        self.net = nn.Sequential(first, nn.SiLU(), last)
        initialise(self.net, generator)
        for weight in last.parameters():
            nn.init.zeros_(weight)

    def forward(self, y: Tensor) -> Tensor:
        shift, offset = at_least_float32(self.net(y)).chunk(2, dim=1)
        return torch.cat([y + shift, offset], dim=1)


def load_weights(module: nn.Module, path: str | Path) -> nn.Module:
    """Fills a module that the caller has built with the weights of a .safetensors file, and gives it back.

    Raises:
        InputError: no such file, no safetensors, or weights of another module.
    """
    path = user_path(path)
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} is no .safetensors file: other formats can run code when they are read; write one with"
            " safetensors.torch.save_file(module.state_dict(), ...)"
        )
    if not path.is_file():
        raise InputError(f"there is no file {path}: check the path")
    path.open("rb").close()  # safetensors would take a missing permission for a missing file
    try:
        module.load_state_dict(load_file(path))
    except SafetensorError as damage:
        raise InputError(f"{path} is damaged or cut short ({damage}): write it again") from None
    except RuntimeError as difference:
        raise InputError(
            f"{path} does not fit {type(module).__name__}: {str(difference).splitlines()[-1].strip()}"
        ) from None
    return module


def _check_weights(*nets: nn.Module) -> None:
    """Passes where every weight is a float32 that gradients can pass. InputError: one is not."""
    for value in (value for net in nets for value in [*net.parameters(), *net.buffers()]):
        if nn.parameter.is_lazy(value):
            continue
        if value.is_floating_point() and value.dtype != torch.float32:
            raise InputError(
                f"encoder or decoder has weights of {str(value.dtype).removeprefix('torch.')}: pass encoder.float() and"
                " decoder.float()"
            )
        if value.is_inference():
            raise InputError("encoder or decoder was made in torch.inference_mode(): make it outside of it")


def _outcome(name: str, given: Tensor, call: Callable[[], Tensor]) -> Tensor:
    try:
        return call()
    except (RuntimeError, ValueError, TypeError, IndexError) as failure:
        if isinstance(failure, InputError):
            raise
        raise InputError(
            f"the {name} cannot take {tuple(given.shape)} ({str(failure).splitlines()[0]}): correct data_shape or"
            " latent_shape"
        ) from failure


def _mean_and_scale(output: Any, returns: EncoderReturns) -> tuple[Tensor, Tensor | None]:
    """What an encoder returned, as mean and scale; the scale is None where there is none."""
    output = _named(output, ("latent_dist",)) or output
    if isinstance(output, Tensor):
        if returns == "mean":
            return output, None
        if output.shape[1] % 2:
            raise InputError(
                f"the encoder gives {output.shape[1]} along axis 1, and mean and scale need an even number: pass"
                ' encoder_returns="mean" for an encoder without a scale'
            )
        mean, scale = output.chunk(2, dim=1)
        return mean, scale
    if isinstance(output, tuple | list):
        mean, scale = ([*output, None, None])[:2]
    else:
        mean, scale = _named(output, MEAN_NAMES), _named(output, SCALE_NAMES[returns])
    if mean is None or (scale is None and returns != "mean"):
        wanted = returns.replace("mean_", "mean and ").replace("log_", "log ")
        raise InputError(
            f"the encoder returned a {type(output).__name__} in which no {wanted} was found: return a tensor"
            " of both along axis 1, or the two as a pair, or correct encoder_returns"
        )
    return mean, None if returns == "mean" else scale


def _image(output: Any) -> Tensor:
    if isinstance(output, tuple | list):
        output = output[0]
    image = output if isinstance(output, Tensor) else _named(output, IMAGE_NAMES)
    if image is None:
        raise InputError(
            f"the decoder returned a {type(output).__name__} in which no image was found: return the image as a tensor"
        )
    return image


def _named(output: Any, names: tuple[str, ...]) -> Any:
    """The first of these entries or attributes that is there."""
    for name in names:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if value is not None and not callable(value):
            return value
    return None
