"""What the parts of a VAEBM need of each other.

    an energy on x that sees samples    a decoder whose samples have a gradient in their noise
    the released target                 the same, and log p(x | z) of a sample
    smoothing                           images, an energy on samples, and a Gaussian decoder, to whose variance it adds
    chains that leave codes alone       an energy on samples, the exact target, chains that are not replicas, and starts
                                        that E_x has not chosen: a choice weighs codes

They are checked when a model is built, before anything is trained, and when its settings change.
"""

from __future__ import annotations

from vaebm.data.modality import IMAGES, modality_of
from vaebm.errors import InputError
from vaebm.models.settings import ModelSettings


def check_parts(settings: ModelSettings, data_shape: tuple[int, ...], reparameterised: bool) -> None:
    """Passes, or raises; `reparameterised` says whether the decoder's samples have a gradient.

    Raises:
        InputError: parts that do not go together; the message names the keys to change.
    """
    energy, likelihood = settings.energy, f"vae.likelihood.kind={settings.vae.likelihood.kind}"
    if energy.image is not None and not reparameterised and not energy.sees_means:
        raise InputError(
            f"energy.image needs a decoder whose samples have a gradient, but {likelihood} has none: set"
            " vae.likelihood.kind=censored or gaussian, energy.input=mean, or energy.image=null"
        )
    if settings.target == "release" and (energy.sees_means or not reparameterised):
        raise InputError(
            "target=release needs log p(x | z) of a sample with a gradient, but"
            f" {'energy.input=mean' if energy.sees_means else likelihood} has none: set target=exact"
        )
    is_image = modality_of(data_shape) is IMAGES
    gaussian = settings.vae.likelihood.kind == "gaussian"
    if energy.noise_std and (energy.image is None or energy.sees_means or not is_image or not gaussian):
        raise InputError(
            "energy.noise_std needs images, an energy.image that sees samples, and vae.likelihood.kind=gaussian: set"
            " those, or energy.noise_std=0"
        )
    if settings.latent_step_scale == 0 and (
        energy.image is None
        or energy.sees_means
        or settings.target == "release"
        or settings.sampler.kind == "tempering"
        or settings.init.importance_samples > 1
    ):
        raise InputError(
            "latent_step_scale=0 moves pixels alone, which needs an energy.image that sees samples, target=exact, another"
            " sampler than tempering, and init.importance_samples=1: set those, or latent_step_scale above 0"
        )
