"""The mixture fitted to codes: what it fits, and that a seed decides it."""

import io
import math
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.mixture import GaussianMixture as Reference
from torch import Tensor

from vaebm.distributions.mixture import GaussianMixture
from vaebm.progress import on_terminal
from vaebm.vae import CodeMixtureSettings, fit_code_mixture
from vaebm.vae.code_mixture import CHUNK

CENTRES = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]])


def codes(n: int = 3000) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(3, (n,), generator=generator)
    return CENTRES[which] + torch.randn(n, 2, generator=generator) * torch.tensor([1.0, 0.5])


def test_it_finds_the_clusters() -> None:
    mixture = fit_code_mixture(codes(), CodeMixtureSettings(components=3), seed=0)
    distance, found = torch.cdist(CENTRES, mixture.means).min(1)
    assert sorted(found.tolist()) == [0, 1, 2]
    # A mean over 1,000 codes of standard deviation 1.
    assert distance.max() < 5 / math.sqrt(1000)
    assert float(mixture.log_weights.exp().sum()) == pytest.approx(1.0, abs=1e-6)
    covariance = mixture.factors @ mixture.factors.mT
    torch.testing.assert_close(covariance.mean(0), torch.diag(torch.tensor([1.0, 0.25])), rtol=0, atol=0.1)


def test_it_fits_better_than_the_prior_and_than_one_gaussian() -> None:
    z = codes()
    one = fit_code_mixture(z, CodeMixtureSettings(components=1), seed=0)
    three = fit_code_mixture(z, CodeMixtureSettings(components=3), seed=0)
    values = [float(m.log_prob(z).mean()) for m in (GaussianMixture.standard(1, 2), one, three)]
    assert values == sorted(values)
    # One component is the sample's own Gaussian, with the floor on its diagonal.
    covariance = torch.from_numpy(np.cov(z.double().numpy().T, bias=True)) + 1e-3 * torch.eye(2)
    torch.testing.assert_close((one.factors @ one.factors.mT)[0].double(), covariance, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.means[0], z.mean(0), rtol=1e-4, atol=1e-4)


def test_it_is_where_scikit_learn_arrives_from_the_same_start() -> None:
    z = codes()
    ours = fit_code_mixture(z, CodeMixtureSettings(components=3), seed=0)
    theirs = Reference(3, reg_covar=1e-3, means_init=ours.means.double().numpy(), tol=1e-8, max_iter=1000)
    theirs.fit(z.double().numpy())
    # Both stand at the same optimum, ours within the tolerance of its last step.
    torch.testing.assert_close(ours.means.double(), torch.from_numpy(theirs.means_), rtol=0, atol=0.02)
    assert float(ours.log_prob(z).mean()) == pytest.approx(theirs.score(z.double().numpy()), abs=1e-3)


def test_more_codes_than_fit_in_one_part_give_the_same_sums() -> None:
    z = codes(2 * CHUNK + 1)
    mixture = fit_code_mixture(z, CodeMixtureSettings(components=1), seed=0)
    torch.testing.assert_close(mixture.means[0], z.mean(0), rtol=0, atol=1e-4)
    covariance = z.T.cov(correction=0) + 1e-3 * torch.eye(2)
    torch.testing.assert_close(mixture.factors[0] @ mixture.factors[0].mT, covariance, rtol=1e-4, atol=1e-4)


def test_the_seed_decides_it_and_no_global_state() -> None:
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    settings = CodeMixtureSettings(components=7)
    first, second = (fit_code_mixture(codes(), settings, seed=3) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_a_floor_holds_where_the_codes_have_no_width() -> None:
    z = codes()
    z[:, 1] = 2.0
    mixture = fit_code_mixture(z, CodeMixtureSettings(components=2, covariance_floor=1e-2), seed=0)
    assert mixture.log_prob(z).isfinite().all()
    assert (mixture.factors.diagonal(0, 1, 2) >= 0.0999).all()


def test_few_codes_get_few_components() -> None:
    mixture = fit_code_mixture(codes(8), CodeMixtureSettings(components=20), seed=0)
    assert len(mixture.log_weights) == 4


def test_settings_ask_for_enough_codes() -> None:
    with pytest.raises(ValidationError, match="at least twice as many"):
        CodeMixtureSettings(components=60, codes=100)


def test_a_fit_says_how_far_it_is() -> None:
    written = io.StringIO()
    fit_code_mixture(codes(), CodeMixtureSettings(components=3), seed=0, progress=on_terminal(stream=written))
    assert re.match(r"mixture: \d+ iterations in .*, log likelihood -\d", written.getvalue())
