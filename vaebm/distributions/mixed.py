"""The mixed likelihood of a table's row: each column has a density or probabilities of its own, all exact.

Of the encoded row (distributions/columns.py), with Phi the normal law and eps ~ N(0, I):

    number              y = mu + sigma eps                          log N(y; mu, sigma)
    of few values       the bin [a, b] of mu + sigma eps            log [Phi((b - mu) / sigma) - Phi((a - mu) / sigma)]
    missing or not      m = 1 where l + logit Phi(eps) > 0          log sigmoid(l), or log sigmoid(-l)
                        y = 0 where m = 1, and its term is left out
    category            argmax_k of l_k - log(-log Phi(eps_k))      log softmax(l)_k             (Gumbel's maximum)

So log p(x | z) is in nats, of probabilities for whatever is counted and of a density, per unit of a standard score, for
numbers of many values. Every draw is a function of Gaussian noise and as exact as its density: what an energy sees of
samples has categories that are 0 or 1, and repeated values that repeat, as data have.

Bins, categories and missing values are steps of that function, flat between their edges. Their gradient is that of the
smooth function beside them (straight through: Bengio, Léonard & Courville, 2013, https://arxiv.org/abs/1308.3432): y
for a bin, softmax and sigmoid for the rest. It points the way for a chain, and what makes the chain exact is the accept
step, which looks at densities alone; a kernel without one is not exact here.

An outer bin holds all that lies beyond. A number beyond it that a user's row holds, which the model never draws, is
scored by the mass of a bin as wide as the outermost: farther is stranger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from vaebm.distributions.columns import CategoryColumn, Columns, ColumnSettings, NumberColumn
from vaebm.distributions.gaussian import HALF_LOG_TWO_PI, at_least_float32, log_normal_cdf
from vaebm.distributions.likelihood import MAX_OFFSET, MIN_SCALE, Likelihood, LikelihoodHead
from vaebm.errors import InputError
from vaebm.registry import Settings

FAR = 1e4  # to the end of an outer bin, in standard scores and in standard deviations
NARROW = 0.02  # standard deviations: the mass of a bin is its middle's density times its width
SMALLEST = 1e-30  # of -log Phi(eps)


class Bins(nn.Module):
    """Where the numbers lie that have few values, and the bins of these, all padded to equal length.

    Args:
        columns: of the table.
    """

    places: Tensor
    edges: Tensor
    levels: Tensor
    outer: Tensor

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        found = [
            (place.start, column)
            for place, column in zip(columns.places, columns.columns, strict=True)
            if isinstance(column, NumberColumn) and column.edges is not None
        ]
        most = max((len(column.values) for _, column in found), default=2)
        edges, levels = torch.full((len(found), most - 1), torch.inf), torch.zeros(len(found), most)
        for row, (_, column) in enumerate(found):
            edges[row, : len(column.values) - 1] = torch.tensor(column.edges)
            levels[row] = torch.tensor([*column.scores, *[column.scores[-1]] * (most - len(column.scores))])
        gaps = [np.diff(column.scores)[[0, -1]] for _, column in found]
        ends = [(column.scores[0], column.scores[-1]) for _, column in found]
        self.of_columns = [place for place, _ in found]
        self.register_buffer("places", torch.tensor(self.of_columns, dtype=torch.long), False)
        self.register_buffer("edges", edges, False)  # (S, most - 1)
        self.register_buffer("levels", levels, False)  # (S, most)
        outer = torch.tensor(np.array([*np.reshape(ends, (-1, 2)).T, *np.reshape(gaps, (-1, 2)).T]), dtype=torch.float)
        self.register_buffer("outer", outer, False)  # (4, S): first and last level, and the gaps beside them

    def rounded(self, y: Tensor) -> Tensor:
        """(B, S) to the levels of their bins, with the gradient of y."""
        level = self.levels.gather(1, self._bin(y).T).T
        return straight_through(level, y)

    def around(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The ends (B, S) of the bins of y."""
        place = self._bin(y)
        padded = functional.pad(functional.pad(self.edges, (1, 0), value=-torch.inf), (0, 1), value=torch.inf)
        low, high = padded.gather(1, place.T).T, padded.gather(1, place.T + 1).T
        first, last, low_gap, high_gap = self.outer
        below, above = y < first - low_gap / 2, y > last + high_gap / 2
        low = torch.where(above, y - high_gap / 2, torch.where(below, y - low_gap / 2, low))
        high = torch.where(above, y + high_gap / 2, torch.where(below, y + low_gap / 2, high))
        return low.detach(), high.detach()

    def _bin(self, y: Tensor) -> Tensor:
        return torch.searchsorted(self.edges, y.detach().T.contiguous()).T


def straight_through(value: Tensor, smooth: Tensor) -> Tensor:
    """`value`, to the bit, with the gradient of `smooth`."""
    return value + (smooth - smooth.detach())


def log_mass(low: Tensor, high: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    """log [Phi((high - mu) / sigma) - Phi((low - mu) / sigma)], element-wise; the ends may be infinite."""
    low, high = low.clamp(min=-FAR), high.clamp(max=FAR)  # an infinite one would have no gradient
    a, b = (((end - mu) / sigma).clamp(-FAR, FAR) for end in (low, high))
    middle = (a + b) / 2
    narrow = b - a < NARROW
    flip = middle > 0  # both ends where Phi is small
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    upper = log_normal_cdf(b)
    ratio = torch.where(narrow, -1.0, log_normal_cdf(a) - upper).clamp(max=-1e-7)
    width = torch.where(narrow, (high - low) / sigma, 1.0).clamp(min=1e-12)
    thin = -0.5 * middle.square() - HALF_LOG_TWO_PI + width.log()
    return torch.where(narrow, thin, upper + torch.log(-torch.expm1(ratio)))


@dataclass(frozen=True)
class MixedLikelihood(Likelihood):
    """p(x | z) of rows (B, 1, width); `raw` is as long, means and logits, and so are the scales of numbers."""

    head: MixedHead
    raw: Tensor
    scale: Tensor

    @property
    def center(self) -> Tensor:
        """Numbers at their means, categories the likeliest."""
        return self.transport(torch.zeros_like(self.raw))

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.stack(list(self.log_prob_parts(x).values())).sum(0)

    def log_prob_parts(self, x: Tensor) -> dict[str, Tensor]:
        """Of numbers, of whether they are missing, and of categories, as far as a table has them."""
        head, x = self.head, x[:, 0]
        raw, scale = self.raw[:, 0], self.scale[:, 0]
        parts = {}
        if len(head.numbers):
            mu, sigma, y = raw[:, head.numbers], scale[:, head.numbers], x[:, head.numbers]
            log_prob = -0.5 * ((y - mu) / sigma).square() - sigma.log() - HALF_LOG_TWO_PI
            if len(head.bins.places):
                places, number = head.bins.places, head.binned
                mass = log_mass(*head.bins.around(x[:, places]), raw[:, places], scale[:, places])
                log_prob = log_prob.index_copy(1, number, mass)
            there = torch.ones_like(y)
            if len(head.missing):
                there = there.index_copy(1, head.may_be_missing, 1.0 - x[:, head.missing])
            parts["numbers"] = (log_prob * there).sum(1)
        if len(head.missing):
            logits, gone = raw[:, head.missing], x[:, head.missing]
            parts["missing"] = (gone * logits - functional.softplus(logits)).sum(1)
        if head.categories:
            parts["categories"] = sum(
                ((x[:, place] * raw[:, place].log_softmax(1)).sum(1) for place in head.categories),
                torch.zeros_like(x[:, 0]),
            )
        return parts

    def densities(self, x: Tensor) -> Tensor:
        head = self.head
        there = torch.ones_like(x[:, 0, head.numbers])
        if len(head.missing):
            there = there.index_copy(1, head.may_be_missing, 1.0 - x[:, 0, head.missing])
        if len(head.bins.places):
            there = there.index_fill(1, head.binned, 0.0)
        return there.sum(1)

    def sample(self, generator: torch.Generator) -> Tensor:
        eps = torch.randn(self.raw.shape, generator=generator, dtype=self.raw.dtype, device=self.raw.device)
        return self.transport(eps)

    def transport(self, eps: Tensor) -> Tensor:
        head, raw, eps = self.head, self.raw[:, 0], eps[:, 0]
        x = torch.zeros_like(raw)
        if len(head.numbers):
            y = raw + self.scale[:, 0] * eps
            if len(head.bins.places):
                y = y.index_copy(1, head.bins.places, head.bins.rounded(y[:, head.bins.places]))
            numbers = y[:, head.numbers]
            if len(head.missing):
                logistic = torch.special.log_ndtr(eps[:, head.missing]) - torch.special.log_ndtr(-eps[:, head.missing])
                soft = torch.sigmoid(raw[:, head.missing] + logistic)
                gone = straight_through((soft > 0.5).to(soft.dtype), soft)
                there = torch.ones_like(numbers).index_copy(1, head.may_be_missing, 1.0 - gone)
                numbers, x = numbers * there, x.index_copy(1, head.missing, gone)
            x = x.index_copy(1, head.numbers, numbers)
        for place in head.categories:
            gumbel = -(-log_normal_cdf(eps[:, place])).clamp(min=SMALLEST).log()
            soft = (raw[:, place] + gumbel).softmax(1)
            chosen = functional.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)
            x = torch.cat([x[:, : place.start], straight_through(chosen, soft), x[:, place.stop :]], dim=1)
        return x[:, None]

    def transported_log_prob(self, eps: Tensor) -> Tensor:
        return self.log_prob(self.transport(eps))


class MixedHead(LikelihoodHead):
    """Means, logits and scales of the columns of a table.

    The scale of a number is the decoder's, within a factor e^4 of a learned base.
    """

    outputs_per_value = 2
    reparameterised = True
    numbers: Tensor
    missing: Tensor
    may_be_missing: Tensor
    binned: Tensor

    def __init__(self, columns: Columns, initial_scale: float) -> None:
        super().__init__()
        self.columns, self.bins = columns, Bins(columns)
        numbers, missing, may_be_missing = list[int](), list[int](), list[int]()
        self.categories: list[slice] = []
        for column, place in zip(columns.columns, columns.places, strict=True):
            if isinstance(column, CategoryColumn):
                self.categories.append(place)
                continue
            if column.missing:
                missing.append(place.start + 1)
                may_be_missing.append(len(numbers))
            numbers.append(place.start)
        binned = [numbers.index(place) for place in self.bins.of_columns]
        for name, places in (
            ("numbers", numbers),  # where they lie in the vector
            ("missing", missing),  # where it says that one is missing
            ("may_be_missing", may_be_missing),  # which of the numbers these are
            ("binned", binned),  # which of the numbers have few values
        ):
            self.register_buffer(name, torch.tensor(places, dtype=torch.long), False)
        self.base_log_scale = nn.Parameter(torch.full((columns.width,), initial_scale).log())

    def forward(self, raw: Tensor) -> MixedLikelihood:
        mu, offset = at_least_float32(raw).chunk(2, dim=1)
        log_scale = self.base_log_scale + MAX_OFFSET * torch.tanh(offset / MAX_OFFSET)
        return MixedLikelihood(self, mu, MIN_SCALE + log_scale.exp())


class MixedSettings(Settings):
    """Numbers, missing values and categories, each with a law of its own."""

    kind: Literal["mixed"] = Field("mixed", description="the kind of p(x | z)")
    columns: list[ColumnSettings] = Field(
        [], description="of the table, with all that turns a row into a vector and back; found in the data"
    )
    initial_scale: float = Field(0.5, gt=0, description="sigma of numbers before training, in standard scores")

    def build(self) -> LikelihoodHead:
        if not self.columns:
            raise InputError(
                "vae.likelihood.kind=mixed is of a table: train one by its path, as in `vaebm train x.csv`"
            )
        return MixedHead(Columns(tuple(self.columns)), self.initial_scale)
