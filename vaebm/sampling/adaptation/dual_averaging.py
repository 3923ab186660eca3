r"""Dual averaging: the step size with the target acceptance.

After the m-th step with acceptance $\alpha_m$ (the mean over the chains that share a step size), towards the target
$\delta$:

    $$ \bar H_m = \left(1 - \tfrac{1}{m + t_0}\right) \bar H_{m-1} + \tfrac{1}{m + t_0} (\delta - \alpha_m) $$
    $$ \log h_m = \mu - \tfrac{\sqrt m}{\gamma} \bar H_m, \qquad
       \log \bar h_m = m^{-\kappa} \log h_m + (1 - m^{-\kappa}) \log \bar h_{m-1} $$

$h_m$ is used while learning and $\bar h$ kept in the end; $\gamma = 0.05$, $t_0 = 10$, $\kappa = 0.75$. Unlike the
reference, $\mu = \log h_0$ and not $\log 10\,h_0$: an unadjusted chain cannot undo a step ten times too large.

Reference: Hoffman and Gelman, The No-U-Turn Sampler, JMLR 15, 2014, section 3.2.
"""

import torch
from torch import Tensor

GAMMA = 0.05
T0 = 10.0
KAPPA = 0.75


class DualAveraging:
    """Learns step sizes of any shape, one for each group of chains, from h_0 towards the target acceptance delta."""

    def __init__(self, step_size: Tensor, target_acceptance: float) -> None:
        self.target_acceptance = target_acceptance
        self.mu = step_size.log()
        self.count = 0
        self.error = torch.zeros_like(self.mu)
        self.log_step = self.mu
        self.log_average = torch.zeros_like(self.mu)

    def update(self, acceptance: Tensor) -> Tensor:
        """Takes the acceptance of the last step, of the step size's shape, and gives the step size for the next."""
        self.count += 1
        m = self.count
        weight = 1 / (m + T0)
        self.error = (1 - weight) * self.error + weight * (self.target_acceptance - acceptance.to(self.mu.dtype))
        self.log_step = self.mu - m**0.5 / GAMMA * self.error
        self.log_average = m**-KAPPA * self.log_step + (1 - m**-KAPPA) * self.log_average
        return self.log_step.exp()

    @property
    def average(self) -> Tensor:
        """The step size to keep (h_0 before any update)."""
        return self.log_average.exp() if self.count else self.mu.exp()
