"""Ratio rounds: density ratio of data to the model so far, round after round.

    l = E_old - E,      (x-, z-) from chains on the model with E_old
    L = mean softplus(m + c - l(x+)) + mean softplus(l(x-) - m - c),      m = (mean l(x+) + mean l(x-)) / 2

m + c stands for the two models' normalisers, whose difference is unknown. m, the batch's own mean, carries its
gradient, so that no step of E moves what is common to all its values: with c alone, large nets lose their level
faster than c can follow (contrasts of 2 to 4 instead of log 4 on MNIST), and with m detached, energies run away. But
at the optimum the constant is log Z - log Z_old, which is no mean of l: m alone would move the optimum. c is what is
missing, learned beside E by gradient descent at a rate of its own, from 0 in each round. At E = E_old the gradient is
half of contrastive divergence's (Goodfellow, On distinguishability criteria for estimating generative models, 2014,
https://arxiv.org/abs/1412.6515), but the loss is bounded below, saturates where data and samples are told apart, and
the samples stay where they are while E moves: contrastive divergence with a trust region. It goes on where the base
does not cover the data: as in Rhodes, Xu & Gutmann, Telescoping density-ratio estimation, NeurIPS 2020,
https://arxiv.org/abs/2006.12204, each ratio is small.

The learning rate falls to 0 within each round: a round that ends at a high rate leaves its noise to the next one's
samples.
"""

import functools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebm import sampling
from vaebm.models import CHAINS_AT_ONCE
from vaebm.training.checkpoint import Tree
from vaebm.training.estimators.contrast import Contrast, ContrastEstimator, ContrastSettings
from vaebm.training.estimators.negatives import Pair, decoded, moved, start
from vaebm.training.optimizer import rise_and_fall

CONSTANT_RATE = 0.5  # of descent in c; the loss's curvature in c is 1/2 at most, so it cannot overshoot


def ratio_to_old(
    positive: Tensor, negative: Tensor, old_positive: Tensor, old_negative: Tensor, constant: Tensor
) -> Contrast:
    """Energies under the new and the old net of data and of samples of the old model, each (B,), and c, a scalar."""
    logit_positive, logit_negative = old_positive - positive, old_negative - negative
    level = 0.5 * (logit_positive.mean() + logit_negative.mean()) + constant  # m carries its gradient: see above
    loss = functional.softplus(level - logit_positive).mean() + functional.softplus(logit_negative - level).mean()
    return Contrast.of(loss, positive, negative, logistic=True)


class RatioRoundsSettings(ContrastSettings):
    """Logistic density ratio of data to the model's own chains, round after round."""

    kind: Literal["ratio_rounds"] = Field(
        "ratio_rounds", description="logistic density ratio of data to the model's own chains, in rounds"
    )
    rounds: int = Field(8, ge=1, description="rounds, each with samples of the model as the last one left it")
    iterations_per_round: int = Field(100, ge=1, description="optimizer steps in a round")
    chains: int = Field(2048, ge=1, description="chains in the pool")
    sampler: sampling.Sampler | None = Field(
        None, description="its steps are what chains move on between rounds; null: the recipe's"
    )
    restart_fraction: float = Field(0.1, ge=0, le=1, description="fraction of the chains that begin anew each round")
    restart_steps: int = Field(60, ge=1, description="steps of those, and of all chains in the first round")

    @property
    def iterations(self) -> int:
        return self.rounds * self.iterations_per_round


class RatioRounds(ContrastEstimator):
    """Data against the model's own chains."""

    settings_type = RatioRoundsSettings
    settings: RatioRoundsSettings

    def prepare(self) -> None:
        super().prepare()
        self.chains = self.training.engine.per_process(self.settings.chains)
        self.old = self.energy.frozen_copy()
        self.constant = nn.Parameter(torch.zeros((), device=self.training.engine.device))  # c
        self.position: Tensor | None = None  # (chains, dim), in equilibrium under the old model
        self.samples = Pair(None, None)  # what the energy reads of them
        self.chain_figures: dict[str, float] = {}

    def step(self, iteration: int) -> dict[str, float]:
        if iteration % self.settings.iterations_per_round == 0:
            if iteration:
                self.optimizer.ema.replace_weights()
            self.old.load_state_dict(self.energy.state_dict())
            self.constant.detach().zero_()
            self._equilibrate()
        data = self.data()
        generator, device = self.training.engine.generator, self.training.engine.device
        samples = self.samples.chosen(torch.randperm(self.chains, generator=generator, device=device)[: data.rows])
        positive, negative = self.energies(data, samples)
        with torch.no_grad():
            old = self.energies(data, samples, self.old)
        contrast = ratio_to_old(positive, negative, *old, self.constant)
        figures = self.learn_from(contrast, positive, negative, iteration)
        self._move_constant()
        return {**figures, **self.chain_figures, "constant": float(self.constant.detach())}

    def rate(self, iteration: int) -> float:
        length = self.settings.iterations_per_round
        return rise_and_fall(iteration % length, length, self.settings.warmup_iterations)

    @torch.no_grad()
    def _move_constant(self) -> None:
        """A step of gradient descent, by the gradient that the loss has left."""
        self.training.engine.average_gradients([self.constant])
        assert self.constant.grad is not None
        self.constant.sub_(CONSTANT_RATE * self.constant.grad)
        self.constant.grad = None

    def _equilibrate(self) -> None:
        """Moves the chains on under the model as it is now; some begin anew, in the first round all."""
        s, t = self.settings, self.training
        sampler = s.sampler or t.model.settings.sampler
        first = sampler.model_copy(update={"steps": s.restart_steps})
        if self.position is None:
            self.position, self.chain_figures = moved(t, start(t, self.chains), first, task="chains")
        else:
            restarts = max(1, round(s.restart_fraction * self.chains))
            order = torch.randperm(self.chains, generator=t.engine.generator, device=self.position.device)
            kept = self.position[order[restarts:]]
            fresh, figures = moved(t, start(t, restarts), first, task="chains")
            if len(kept):
                kept, of_kept = moved(t, kept, sampler, task="chains")
                figures = of_kept if figures["stuck_fraction"] < 1.0 else figures
            self.position, self.chain_figures = torch.cat([fresh, kept]), figures
        with t.model.frozen():
            head, *rest = (decoded(t.model, part) for part in self.position.split(CHAINS_AT_ONCE))
        self.samples = functools.reduce(Pair.joined, rest, head)

    def state_dict(self) -> Tree:
        pool = {"position": self.position, "samples": list(self.samples), "chain_figures": self.chain_figures}
        return {**super().state_dict(), "old": self.old.state_dict(), "constant": self.constant.detach(), **pool}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        self.old.load_state_dict(state["old"])
        self.constant.detach().copy_(state["constant"])
        engine = self.training.engine
        pool: list[Tensor | None] = [state["position"], *state["samples"]]
        # Another number of processes has another number of chains each: some are left out, or begin twice.
        rows = torch.arange(self.chains) + engine.rank * self.chains
        self.position, x, z = (None if value is None else value[rows % len(value)].to(engine.device) for value in pool)
        self.samples, self.chain_figures = Pair(x, z), state["chain_figures"]
