"""Disentanglement of the codes of held-out data, where the factors that these were made from are known.

Codes are posterior means, of a VAE those coordinates that its mixture is fitted to. Of more than 10,000 held-out data
as many are chosen at random. The gap of `mig` is that of posterior means in 20 bins; where q(z | x) is known, its
settings have the gap of samples from it too (`of_samples`, `of_samples_stderr`; metrics/disentanglement/mig.py).
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from vaebm import metrics
from vaebm.data import DataSet
from vaebm.evaluation.metric import ROWS_AT_ONCE, Given, Metric
from vaebm.evaluation.quantity import Quantity
from vaebm.metrics.measurement import Measurement
from vaebm.models import Model, NoiseSpaceModel

MAX_DATA = 10_000
Score = Callable[..., Measurement | dict[str, Measurement]]


class OfCodes(Metric):
    """A score of codes and factors."""

    needs = frozenset({"codes"})
    score: ClassVar[Score]

    def applies(self, subject: str, data: DataSet, model: Model) -> bool:
        factors = data.test.factors
        return subject == model.subjects[0] and factors is not None and factors.shape[1] > 1

    def measure(self, given: Given) -> list[Measurement]:
        rows, factors = chosen_factors(given)
        found = type(self).score(_codes(given)[rows], factors, seed=given.seed)
        return [m.with_settings(split="test") for m in ([found] if isinstance(found, Measurement) else found.values())]


class MIG(OfCodes):
    """Mutual information gap."""

    quantities = (Quantity("mig", "MIG", "the mutual information gap", better="higher"),)
    score = staticmethod(metrics.mig)

    def measure(self, given: Given) -> list[Measurement]:
        (found,) = super().measure(given)
        if not isinstance(given.model, NoiseSpaceModel) or not given.model.vae.code_dim:
            return [found]
        rows, factors = chosen_factors(given)
        mean, std = _posteriors(given, given.model, rows)
        of_samples = metrics.mig(mean, factors, stds=std, seed=given.seed)
        return [found.with_settings(of_samples=of_samples.value, of_samples_stderr=of_samples.stderr)]


class DCI(OfCodes):
    """Disentanglement, completeness, informativeness."""

    quantities = (
        Quantity("dci_disentanglement", "DCI disentanglement", "the disentanglement by trees", better="higher"),
        Quantity("dci_completeness", "DCI completeness", "the completeness by trees", better="higher"),
        Quantity("dci_informativeness", "DCI informativeness", "the accuracy of trees on codes", "%", "higher", 100.0),
    )
    score = staticmethod(metrics.dci)


class SAP(OfCodes):
    """Separated attribute predictability."""

    quantities = (Quantity("sap", "SAP", "the separated attribute predictability", better="higher"),)
    score = staticmethod(metrics.sap)


class FactorVAEScore(OfCodes):
    """Majority vote of the latents that vary least."""

    quantities = (Quantity("factor_vae_score", "FactorVAE score", "the FactorVAE score", "%", "higher", 100.0),)
    score = staticmethod(metrics.factor_vae_score)


class InfoMEC(OfCodes):
    """Modularity, compactness, explicitness."""

    quantities = (
        Quantity("infomec_modularity", "InfoMEC modularity", "the modularity of latents", better="higher"),
        Quantity("infomec_compactness", "InfoMEC compactness", "the compactness of factors", better="higher"),
        Quantity("infomec_explicitness", "InfoMEC explicitness", "the explicitness of factors", better="higher"),
    )
    score = staticmethod(metrics.infomec)


SCORES: tuple[OfCodes, ...] = (MIG(), DCI(), SAP(), FactorVAEScore(), InfoMEC())


def chosen_factors(given: Given) -> tuple[Tensor, Tensor]:
    """Which rows of the test split are looked at, (n,), and their factors (n, K)."""
    factors = given.data.test.factors
    assert factors is not None
    rows = torch.randperm(len(factors), generator=torch.Generator().manual_seed(given.seed))[:MAX_DATA].sort().values
    return rows, factors[rows]


def _codes(given: Given) -> Tensor:
    model = given.model
    # A CEBM has codes and a VAE without any.
    return given.codes[:, : model.vae.code_dim or None] if isinstance(model, NoiseSpaceModel) else given.codes


@torch.no_grad()
def _posteriors(given: Given, model: NoiseSpaceModel, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of q(z | x) at rows of the test split, (n, code_dim) each, on the CPU."""
    generator = torch.Generator(model.device).manual_seed(given.seed)
    batches = (given.data.test.batch(part).x.to(model.device) for part in rows.split(ROWS_AT_ONCE))
    parts = [model.vae.infer(x, generator).posterior for x in batches]
    return torch.cat([q.mean for q in parts]).cpu(), torch.cat([q.scale.expand_as(q.mean) for q in parts]).cpu()
