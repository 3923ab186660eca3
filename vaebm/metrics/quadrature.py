"""The exact density of a VAE and of a VAEBM in the plane, by quadrature.

With latents distributed as w(z) (the prior, or the prior times exp(-E_z)) and a decoder N(x; m(z), diag s(z)^2):

    p(x)  = sum_k w_k N(x_1; m_1k, s_1k) N(x_2; m_2k, s_2k) / sum_k w_k          z_k on a grid, w_k = w(z_k)
    h(x)  = p(x) exp(-E(x)) / Z_x,      Z_x = sum over the grid of x of p(x) exp(-E(x)) * cell
    Z     = Z_x * sum_k w_k * cell      the normaliser of the whole energy if w = p(z) exp(-E_z(z))

Because the decoder is diagonal the sum over k separates: on a grid of x it is A^T diag(w) B, one matrix product in
float64. At single points it is summed directly, in logarithms, and Z taken from the grid.

Two ways to be wrong are measured, not assumed. `error`: everything again on every second point of every axis,
|log Z' - log Z| + sum over the grid of h |log p' - log p| (nats; an upper estimate, since halving the step of a smooth
integrand divides its error by much more). `outside`: the fraction of p beyond the grid of x, known since each Gaussian
integrates to 1.

This is the usual rectangle rule, which converges faster than any power of the step for what vanishes at both ends. It
asks that steps be below the narrowest s(z), and that m(z) move by less than that from one z_k to the next.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaebm.errors import InputError
from vaebm.metrics.arrays import Rows, as_count, as_rows, nearest
from vaebm.metrics.measurement import Measurement

LATENTS_AT_ONCE = 8192
POINTS_AT_ONCE = 65536
PAIRS_AT_ONCE = 1 << 19  # of a point and a latent: keeps the working set in cache

Decode = Callable[[Tensor], tuple[Tensor, Tensor]]


class PlaneQuadrature:
    """Densities on a grid of the plane and at points; everything is computed on creation.

    Args:
        decode: latents (K, d), float32 on the CPU, to mean (K, 2) and scale, broadcastable to (K, 2).
        latent_dim: d, 1 or 2.
        log_latent_weight: (K, d) to (K,), log p(z) or log p(z) - E_z(z), up to a constant (which then shifts `log_z`).
        energy: (N, 2) to (N,), E_x; None for the VAE alone.
        latent_limit: the latent grid covers [-limit, limit] along each axis.
        latent_points: its points along each axis.
        x_range: the grid of x covers this range along both axes.
        x_points: its points along each axis.

    Attributes:
        axis: (x_points,) float64, coordinates of the grid along either axis.
        log_vae: (x_points, x_points), log p at (axis[i], axis[j]); -inf where it underflows.
        log_model: the same of h.
        log_z: log Z.
        error: estimated error of log-densities, in nats.
        outside: fraction of p that lies beyond the grid.

    Raises:
        InputError: another latent dimension, a grid that is none, or a decoder, weight or energy that is not finite or
            has another shape.
    """

    def __init__(
        self,
        decode: Decode,
        latent_dim: int,
        log_latent_weight: Callable[[Tensor], Tensor],
        energy: Callable[[Tensor], Tensor] | None = None,
        *,
        latent_limit: float = 6.0,
        latent_points: int = 401,
        x_range: tuple[float, float] = (-4.0, 4.0),
        x_points: int = 801,
    ) -> None:
        if latent_dim not in (1, 2):
            raise InputError(f"quadrature over {latent_dim} latents is not feasible: use a VAE with 1 or 2, or a bound")
        latent_points, x_points = as_count(latent_points, "latent_points", 3), as_count(x_points, "x_points", 3)
        if not (latent_limit > 0 and x_range[0] < x_range[1]):
            raise InputError(f"latent_limit={latent_limit} and x_range={x_range} span no grid: give positive lengths")
        self.axis = torch.linspace(*x_range, x_points, dtype=torch.float64)
        self._centre = 0.5 * float(self.axis[0] + self.axis[-1])
        self._energy = energy
        self._settings = {"latent_points": latent_points, "x_points": x_points, "x_range": list(x_range)}
        log_cell = 2.0 * math.log(float(self.axis[1] - self.axis[0]))
        log_latent_cell = latent_dim * math.log(2.0 * latent_limit / (latent_points - 1))

        latent_axis = torch.linspace(-latent_limit, latent_limit, latent_points, dtype=torch.float32)
        latents, coarse = _grid(latent_axis, latent_dim)

        def decoded(chunk: Tensor) -> Tensor:
            mean, scale = decode(chunk)
            return torch.cat([mean, scale.expand_as(mean)], 1)

        mean_and_scale = _finite(_in_chunks(decoded, latents, (4,)), "the decoder")
        self._mean, self._scale = mean_and_scale.chunk(2, dim=1)
        log_weight = _finite(_in_chunks(log_latent_weight, latents), "the latent weight")
        self._log_weight = log_weight - torch.logsumexp(log_weight, 0)
        log_z_latent = float(torch.logsumexp(log_weight, 0)) + log_latent_cell

        coarse_density = self._vae_on_grid(coarse)
        density = coarse_density + self._vae_on_grid(~coarse)
        coarse_density /= self._log_weight[coarse].exp().sum()
        self.log_vae = density.log()
        self.outside = max(0.0, 1.0 - float(density.sum()) * math.exp(log_cell))

        tilt = torch.zeros_like(density)
        if energy is not None:
            points = torch.cartesian_prod(self.axis, self.axis).float()
            tilt = _finite(_in_chunks(energy, points), "the energy").reshape(tilt.shape)
        # Without an energy p is normalised as it stands, beyond the grid too.
        self._log_z_x = 0.0 if energy is None else _log_sum(self.log_vae - tilt) + log_cell
        self.log_z = self._log_z_x + log_z_latent
        self.log_model = self.log_vae - tilt - self._log_z_x
        self._mass = (self.log_model + log_cell).exp()

        coarse_log_z = _log_sum((coarse_density.log() - tilt)[::2, ::2]) + log_cell + 2.0 * math.log(2.0)
        change = coarse_log_z - _log_sum(self.log_vae - tilt) - log_cell
        change += float(torch.logsumexp(log_weight[coarse], 0) - torch.logsumexp(log_weight, 0))
        change += latent_dim * math.log(2.0)
        floor = 1e-300  # where one of the two underflows, the other is too small to matter
        moved = ((coarse_density + floor) / (density + floor)).log().abs()
        self.error = abs(change) + float((self._mass * moved).sum())

    def log_prob(self, points: Rows) -> Tensor:
        """Of points (N, 2), log h (N,) in float64, summed over the latents directly.

        Raises:
            InputError: no points of the plane, or an energy that is not finite there.
        """
        points = as_rows(points, "points", at_least=1)
        if points.shape[1] != 2:
            raise InputError(f"points have {points.shape[1]} dimensions: give points (N, 2) of the plane")
        coefficients = self._quadratic_forms()
        points_at_once = max(1, PAIRS_AT_ONCE // coefficients.shape[1])
        logs = []
        for chunk in torch.split(points - self._centre, points_at_once):
            monomials = torch.cat([chunk.square(), chunk, torch.ones_like(chunk[:, :1])], 1)
            logs.append(torch.logsumexp(monomials @ coefficients, 1))
        log_vae = torch.cat(logs)
        if self._energy is None:
            return log_vae
        return log_vae - _finite(_in_chunks(self._energy, points.float()), "the energy") - self._log_z_x

    def log_likelihood(self, points: Rows) -> Measurement:
        """Mean of log h over at least two points (N, 2), in nats; the error of the quadrature is in the settings."""
        if len(points) < 2:
            raise InputError(f"a log-likelihood of {len(points)} points has no standard error: give at least 2")
        log_prob = self.log_prob(points)
        settings = {"method": "quadrature", "error": self.error, "outside": self.outside, **self._settings}
        stderr = float(log_prob.std()) / math.sqrt(len(log_prob))
        found = Measurement("log_likelihood", float(log_prob.mean()), stderr, len(log_prob), settings)
        return found.sharing(log_prob - log_prob.mean(), 0.0)

    def mode_probabilities(self, centres: Tensor) -> Tensor:
        """(K,) float64: how much of h lies nearest to each of the centres (K, 2)."""
        points = torch.cartesian_prod(self.axis, self.axis)
        mode = nearest(points, centres)[1]
        return torch.zeros(len(centres), dtype=torch.float64).index_add_(0, mode, self._mass.flatten())

    def _vae_on_grid(self, chosen: Tensor) -> Tensor:
        """sum_k w_k N(x; m_k, s_k) over the chosen latents (K,) bool, on the grid of x."""
        density = torch.zeros(len(self.axis), len(self.axis), dtype=torch.float64)
        for rows in torch.split(chosen.nonzero()[:, 0], LATENTS_AT_ONCE):
            mean, scale = self._mean[rows, :, None], self._scale[rows, :, None]
            normal = torch.exp(-0.5 * ((self.axis - mean) / scale).square()) / (scale * math.sqrt(2.0 * math.pi))
            density.addmm_((normal[:, 0] * self._log_weight[rows, None].exp()).T, normal[:, 1])
        return density

    def _quadratic_forms(self) -> Tensor:
        """(5, K): coefficients of x_1^2, x_2^2, x_1, x_2, 1 in log [w_k N(x; m_k, s_k)], x from the grid's middle."""
        mean, precision = self._mean - self._centre, self._scale.square().reciprocal()
        log_normaliser = (self._scale.log() + 0.5 * math.log(2.0 * math.pi)).sum(1)
        constant = self._log_weight - 0.5 * (mean.square() * precision).sum(1) - log_normaliser
        return torch.cat([-0.5 * precision, mean * precision, constant[:, None]], 1).T.contiguous()


def _grid(axis: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Points (K, dim) of a grid, and which of them (K,) have an even index along every axis."""
    even = torch.arange(len(axis)) % 2 == 0
    if dim == 1:
        return axis[:, None], even
    return torch.cartesian_prod(axis, axis), torch.cartesian_prod(even, even).all(1)


def _log_sum(logs: Tensor) -> float:
    return float(torch.logsumexp(logs.flatten(), 0))


def _in_chunks(function: Callable[[Tensor], Tensor], inputs: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    with torch.no_grad():
        values = [function(chunk) for chunk in torch.split(inputs, POINTS_AT_ONCE)]
    for value, chunk in zip(values, torch.split(inputs, POINTS_AT_ONCE), strict=True):
        if value.shape != (len(chunk), *shape):  # a sum over all points would broadcast
            raise InputError(
                f"of {len(chunk)} points shape {tuple(value.shape)} came back: give one value for each point"
            )
    return torch.cat([value.cpu().double() for value in values])


def _finite(values: Tensor, what: str) -> Tensor:
    if not values.isfinite().all():
        fraction = 1.0 - float(values.isfinite().double().mean())
        raise InputError(
            f"{what} is not finite at {fraction:.2%} of the grid: the model has diverged, use an earlier checkpoint"
        )
    return values
