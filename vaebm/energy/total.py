"""The energy as a list of terms: E(x, z) = sum_k E_k(x, z).

The paper's model has one term, E_x(x). Each term is learned where that is cheap: E_z on codes, then what reads x
through the decoder. A term with exact samples of p(z) exp(-E_z(z)) is the *base*: the model with it alone is sampled
without a chain, and chains, importance weights and density ratios begin there. The other terms are the *correction*:

    base(x, z) = p(z) exp(-E_base(z)) p(x | z),      h(x, z) ∝ base(x, z) exp(-sum of the other terms)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vaebm.distributions.mixture import GaussianMixture
from vaebm.energy.base import Energy, LatentEnergy
from vaebm.errors import InputError


class TotalEnergy(Energy):
    """The sum of named terms; without any it is 0.

    Args:
        terms: by name, such as {"image": E_x, "latent": E_z}; at most one of them has exact samples.

    Raises:
        InputError: a term is no energy, or its name cannot be that of a module.
    """

    def __init__(self, terms: Mapping[str, Energy] | None = None) -> None:
        super().__init__()
        for name, term in (terms or {}).items():
            if not isinstance(term, Energy):
                raise InputError(f"the term {name!r} is a {type(term).__name__}: pass an Energy (vaebm/energy/base.py)")
            if not name.isidentifier() or hasattr(self, name):
                raise InputError(f"a term cannot be called {name!r}: take another name, such as 'image'")
            self.add_module(name, term)
        if sum(isinstance(term, LatentEnergy) for term in self.terms.values()) > 1:
            raise ValueError("two terms know exact samples of the codes: keep one of them")
        self.reads_x = any(term.reads_x for term in self.terms.values())
        self.reads_z = any(term.reads_z for term in self.terms.values())

    @property
    def terms(self) -> dict[str, Energy]:
        """The terms by name."""
        return {name: term for name, term in self.named_children() if isinstance(term, Energy)}

    @property
    def base(self) -> LatentEnergy | None:
        """The term with exact samples, if there is one."""
        return next((term for term in self.terms.values() if isinstance(term, LatentEnergy)), None)

    @property
    def correction(self) -> TotalEnergy:
        """The sum of all other terms."""
        return self._part({name: term for name, term in self.terms.items() if not isinstance(term, LatentEnergy)})

    @property
    def on_data(self) -> TotalEnergy:
        """The sum of the terms that read x: what is left of the energy where z is fixed."""
        return self._part({name: term for name, term in self.terms.items() if term.reads_x})

    def _part(self, terms: dict[str, Energy]) -> TotalEnergy:
        return self if len(terms) == len(self.terms) else TotalEnergy(terms)

    def forward(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        terms = self.terms.values()
        if not terms:
            batch = next(given for given in (x, z) if given is not None)
            return torch.zeros(batch.shape[0], device=batch.device, dtype=batch.dtype)
        values: list[Tensor] = [term(x, z) for term in terms]
        return torch.stack(values).sum(0)

    def plain(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        """The same without compiled nets: gradients of compiled nets have no gradient of their own."""
        return torch.stack([term.forward(x, z) for term in self.terms.values()]).sum(0)

    def by_member(self, x: Tensor | None, z: Tensor | None = None) -> Tensor:
        return torch.stack([term.by_member(x, z) for term in self.terms.values()]).sum(0)

    def frozen_copy(self) -> TotalEnergy:
        return TotalEnergy({name: term.frozen_copy() for name, term in self.terms.items()})

    def set_mixture(self, mixture: GaussianMixture) -> None:
        for term in self.terms.values():
            term.set_mixture(mixture)
