"""Settings of a VAEBM: the part of a recipe that is saved with the weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy import EnergySettings
from vaebm.errors import InputError, check_choice
from vaebm.models.base import ModelSettings
from vaebm.models.draw_settings import DrawSettings
from vaebm.models.saved import MODELS
from vaebm.models.vaebm import VAEBM
from vaebm.vae import VAE, VAES, CodeMixtureSettings, VAESettings


@MODELS.register
class VAEBMSettings(DrawSettings, ModelSettings):
    """A VAE, an energy on top, and the sampler of their product."""

    changeable: ClassVar[frozenset[str]] = frozenset(DrawSettings.model_fields)

    kind: Literal["vaebm"] = Field("vaebm", description="the model family")
    vae: Annotated[VAESettings, VAES] = Field(description="the variational autoencoder")
    energy: EnergySettings = Field(EnergySettings(), description="the terms of the energy")
    code_mixture: CodeMixtureSettings = Field(
        CodeMixtureSettings(), description="the mixture fitted to the codes, the baseline"
    )

    def build(self, data_shape: tuple[int, ...], generator: torch.Generator, **parts: Any) -> VAEBM:
        """An untrained model; of `parts`, `vae` is taken in place of one built from `self.vae`, in evaluation mode.

        Its weights are float32, whatever PyTorch's default type is.

        Raises:
            InputError: parts that do not go together, a part that a VAEBM does not have, or a shape that they cannot
                have.
        """
        for name in parts:
            check_choice("part", name, ("vae",))
        # Layers draw from the global state before `generator` redraws them.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            vae = self.vae.build(data_shape, generator).float() if parts.get("vae") is None else _given(parts["vae"])
            if vae.data_shape != tuple(data_shape):
                raise InputError(f"the VAE takes {vae.data_shape}, but the data are {data_shape}: pass another VAE")
            mixture = GaussianMixture.standard(self.code_mixture.components, vae.code_dim).float()
            energy = self.energy.build(data_shape, vae, self.code_mixture.components, generator).float()
        return VAEBM(vae, energy, self, mixture=mixture, noise_std=self.energy.noise_std)


def _given(vae: Any) -> VAE:
    if not isinstance(vae, VAE):
        raise InputError(f"vae is a {type(vae).__name__}: pass a VAE, such as vaebm.ExternalVAE(encoder, decoder, ...)")
    return vae.eval()  # its owner may have gone on training it
