"""A Gaussian mixture fitted to the codes of real data: the baseline to beat, and a normalised energy on z.

The codes of data do not fill N(0, I); z drawn from the mixture instead gives much better samples of the very same
decoder, for seconds of work (ex-post density estimation: Ghosh et al., From Variational to Deterministic Autoencoders,
2020). Codes are draws from q(z | x), so the fit is to the aggregate posterior, not to its means.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from threadpoolctl import threadpool_limits
from torch import Tensor

from vaebm.distributions.mixture import GaussianMixture


class CodeMixtureSettings(BaseModel):
    """Full-covariance Gaussians fitted by expectation-maximisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    components: int = Field(10, ge=1)
    covariance_floor: float = Field(1e-3, gt=0, description="added to the diagonal of every covariance")
    codes: int = Field(20_000, ge=100, description="draws from q(z | x) that the mixture is fitted to")

    @model_validator(mode="after")
    def _check_codes(self) -> CodeMixtureSettings:
        if self.codes < 2 * self.components:
            raise ValueError(f"codes is {self.codes}, but {self.components} components need at least twice as many")
        return self


def fit_code_mixture(codes: Tensor, settings: CodeMixtureSettings, seed: int) -> GaussianMixture:
    """The mixture of best likelihood of two starts on codes (n, d); n at least twice the number of components."""
    from sklearn.mixture import GaussianMixture as Fit

    components = min(settings.components, max(1, codes.shape[0] // 2))
    fit = Fit(components, covariance_type="full", reg_covar=settings.covariance_floor, random_state=seed, n_init=2)
    with threadpool_limits(1):  # sums in a fixed order: the same seed gives the same mixture
        fit.fit(codes.double().cpu().numpy())
    factors = torch.linalg.cholesky(torch.from_numpy(fit.covariances_))
    return GaussianMixture(
        torch.from_numpy(fit.weights_).log().float(), torch.from_numpy(fit.means_).float(), factors.float()
    )
