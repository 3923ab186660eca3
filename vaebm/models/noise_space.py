"""Where chains run: noise space, or the pixels' noise alone.

    latent_step_scale > 0    eps = (eps_z, eps_x) moves, target h(eps)
    latent_step_scale = 0    eps_x moves, eps_z stays, target h(eps_x | eps_z) = exp(-E_x(T(eps))) N(eps_x; 0, I) / Z(eps_z)

The second leaves h invariant too, but a chain never leaves its code. Started from p(z) exp(-E_z(z)) it samples

    p(z) exp(-E_z(z)) h(x | z),    in proportion to h(x, z) / Z(z)

so that E_x shapes images and does not weigh codes against each other. `VAEBM.log_density` stays that of h, and differs
from the law of such samples by log Z(z). An E_x that learns from them is not held to account for the shares of codes:
where E_z has these wrong, each round of contrasts adds the same difference to E_x again, so rounds should be few. The
decoder runs once a chain instead of forwards and backwards at each step, and E_z is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaebm import sampling
from vaebm.distributions.gaussian import standard_log_prob
from vaebm.heap import keep_freed_memory

if TYPE_CHECKING:
    from vaebm.models.vaebm import VAEBM


@dataclass(frozen=True, eq=False)
class ChainSpace:
    """The coordinates that chains move, and their target.

    Args:
        start: (chain, moved), where the chains begin.
        target: (chain, moved) to (chain,).
        kept: (chain, dim - moved), the coordinates of a position before those, which stay.
    """

    start: Tensor
    target: sampling.LogDensity
    kept: Tensor

    def position(self, moved: Tensor) -> Tensor:
        """(chain, moved) to (chain, dim)."""
        return torch.cat([self.kept, moved], dim=1)

    def whole(self, state: sampling.ChainState) -> sampling.ChainState:
        """A state of these chains as one of whole positions; no score pulls at what stays."""
        score = torch.cat([torch.zeros_like(self.kept), state.score], dim=1)
        return state._replace(position=self.position(state.position), score=score)


def chain_space(model: VAEBM, eps: Tensor) -> ChainSpace:
    """For chains that begin at positions (chain, dim); to be used within `model.frozen()`."""
    if model.settings.latent_step_scale > 0:
        return ChainSpace(eps, model.noise_log_density, eps[:, :0])
    image, codes = model.energy_net.image, model.noise.latent_dim
    assert image is not None  # models/parts.py
    with torch.no_grad():
        pixels = model.pixels_of_noise(eps)

    def target(eps_x: Tensor) -> Tensor:
        with model.autocast():
            energy: Tensor = image(pixels.transport(eps_x.unflatten(1, model.data_shape)))
        return standard_log_prob(eps_x) - energy

    return ChainSpace(eps[:, codes:], target, eps[:, :codes])


def run_chains(
    model: VAEBM,
    eps: Tensor,
    generator: torch.Generator,
    sampler: sampling.SamplerSettings,
    progress: Callable[[int, int], None] | None,
    observer: Callable[[int, Tensor], None] | None = None,
) -> sampling.Chains:
    """Runs a sampler from positions (chain, dim).

    `observer` is called after each step as that of `sample_chains`, with its number and the positions (chain, dim).

    Raises:
        KeyboardInterrupt: Ctrl-C; such short chains are of no use before their end.
    """
    keep_freed_memory()
    with model.frozen():
        space = chain_space(model, eps)

        def observe(step: int, state: sampling.ChainState, _: sampling.StepInfo) -> None:
            if observer is not None:
                observer(step, space.position(state.position))

        chains = sampling.sample_chains(
            space.target,
            space.start,
            model.kernel(sampler),
            steps=sampler.steps,
            warmup=sampler.warmup,
            gradients=sampler.gradients,
            generator=generator,
            keep_history=False,
            observer=observe,
            progress=progress,
        )
    if chains.interrupted:
        raise KeyboardInterrupt
    return replace(chains, state=space.whole(chains.state))
