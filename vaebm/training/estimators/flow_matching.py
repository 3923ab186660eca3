"""Flow matching: the velocity that carries the code mixture to codes of data (energy/flow.py).

    z1 ~ q(z | x),   k ~ pi_k N_k(z1) / mix(z1),   z0 ~ N_k,   t ~ U(0, 1),   z_t = (1 - t) z0 + t z1
    minimise  mean |v(z_t, t) - (z1 - z0)|^2 / d

At the optimum z(1) has the law of z1, whatever joins z0 to z1 as long as z0 has the law of the mixture: it has, up to
the error of the fit, whose weights are means of such responsibilities. A z0 of the component that z1 belongs to leaves
v little to do: it is learned several times as fast as from noise (docs/studies/images.md).

Lipman et al., Flow matching for generative modeling, ICLR 2023, https://arxiv.org/abs/2210.02747; Tong et al.,
Improving and generalizing flow-based generative models, TMLR 2024, https://arxiv.org/abs/2302.00482
"""

import torch
from torch import Tensor

from vaebm.energy import FlowEnergy
from vaebm.training.estimators.latent import LatentEstimator

CODES_AT_ONCE = 8192


class FlowMatching(LatentEstimator):
    """Trains the velocity of a flow."""

    energy: FlowEnergy

    def prepare(self) -> None:
        super().prepare()
        generator, mixture = self.on_device(), self.energy.mixture
        components = [
            torch.multinomial(mixture.log_joint(part).softmax(1), 1, generator=generator)
            for part in self.codes.split(CODES_AT_ONCE)
        ]
        self.components = torch.cat(components).squeeze(1)

    def loss(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        z1, z0 = self.codes[chosen], self.energy.mixture.sample_of(self.components[chosen], generator)
        t = torch.rand(len(chosen), generator=generator, device=z1.device)
        z_t = torch.lerp(z0, z1, t[:, None])
        return (self.energy.velocity(z_t, t) - (z1 - z0)).square().mean(), {}
