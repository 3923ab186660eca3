"""The frozen generator: norms folded into convolutions, and the switches that change cost but not values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vaebm.distributions.likelihood import GaussianLikelihood
from vaebm.nn.batch_norm import EPSILON, BatchNormConv2d, batch_norm_layers
from vaebm.nn.folding import foldable_layers, folded
from vaebm.vae import elbo
from vaebm.vae.nvae.model import NVAE

Build = Callable[..., NVAE]
Images = Callable[..., Tensor]


def generated(vae: NVAE) -> tuple[Tensor, Tensor, Tensor]:
    """x, z, and the gradient of a function of x in all the noise."""
    generator = torch.Generator().manual_seed(3)
    eps_z = torch.randn(3, vae.latent_dim, generator=generator).requires_grad_()
    eps_x = torch.randn(3, *vae.data_shape, generator=generator).requires_grad_()
    x, z = vae.generate(eps_x, eps_z)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(x.sin().sum(), (eps_z, eps_x))])
    return x.detach(), z.detach(), gradient


def generated_image(vae: NVAE) -> Tensor:
    eps_z = torch.randn(3, vae.latent_dim, generator=torch.Generator().manual_seed(4))
    return vae.decode(vae.latent(eps_z)).center


@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_folded_it_is_the_same_generator_to_rounding(nvae: Build, norm: str) -> None:
    vae = nvae(norm=norm)
    open_ = generated(vae)
    with folded(vae):
        closed = generated(vae)
        assert all(layer.fold is not None and not layer.fold.requires_grad for layer in foldable_layers(vae))
    for found, expected in zip(closed, open_, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_folded_batch_norms_are_convolution_and_normalisation(nvae: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the two steps that were folded, as PyTorch has them."""
    vae = nvae(norm="batch")
    with folded(vae):
        closed = generated(vae)

    def two_steps(layer: BatchNormConv2d, x: Tensor) -> Tensor:
        y = functional.conv2d(x, layer.weight, None, layer.stride, layer.padding, groups=layer.groups)
        mean, variance = layer.running_mean, layer.running_var
        return functional.batch_norm(y, mean, variance, layer.gain, layer.bias, training=False, eps=EPSILON)

    monkeypatch.setattr(BatchNormConv2d, "forward", two_steps)
    for found, expected in zip(closed, generated(vae), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_folded_chain_computes_nothing_but_the_map(nvae: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = nvae()
    with folded(vae):
        for layer in foldable_layers(vae):
            monkeypatch.setattr(layer, "computed_weight", lambda: pytest.fail("a weight was computed again"))
        generated(vae)


@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_gradient_checkpointing_changes_no_gradient(nvae: Build, images: Images, norm: str) -> None:
    whole, thrifty = nvae(norm=norm), nvae(norm=norm, gradient_checkpointing=True)
    kept = []
    for vae in (whole, thrifty):
        count = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        vae.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = elbo(vae, images(vae.data_shape), torch.Generator().manual_seed(2)).value.mean()
        kept.append(count)
        value.backward()
    for (name, a), (_, b) in zip(whole.named_parameters(), thrifty.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    assert kept[1] < 0.7 * kept[0]
    with torch.no_grad():
        assert torch.equal(generated_image(whole.eval()), generated_image(thrifty.eval()))


def test_nothing_of_an_evaluated_batch_norm_depends_on_the_batch(nvae: Build, images: Images) -> None:
    vae, x = nvae(norm="batch"), images((1, 8, 12), 6)
    before = [layer.running_mean.clone() for layer in batch_norm_layers(vae)]
    torch.testing.assert_close(vae.encode(x[:1]), vae.encode(x)[:1], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b.running_mean) for a, b in zip(before, batch_norm_layers(vae), strict=True))
    vae.train()
    assert not torch.allclose(vae.encode(x[:1]), vae.encode(x)[:1], rtol=1e-2, atol=1e-2)


def test_the_likelihood_of_a_generated_image_is_the_one_that_made_it(nvae: Build) -> None:
    vae = nvae(likelihood={"kind": "gaussian", "scale": "pixel"})
    eps_x = torch.zeros(3, *vae.data_shape)
    x, z = vae.generate(eps_x, torch.randn(3, vae.latent_dim, generator=torch.Generator().manual_seed(1)))
    pixels = vae.decode(z)
    assert isinstance(pixels, GaussianLikelihood)
    torch.testing.assert_close(pixels.center, x)
    without = nvae(likelihood={"kind": "bernoulli"})
    with pytest.raises(TypeError, match="generator"):
        without.generate(eps_x, z)
