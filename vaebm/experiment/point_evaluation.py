"""What is measured of points: modes and, exactly by quadrature, the log-likelihood of held-out points.

The truth, which is known of them, stands where held-out images stand in the tables of images. Quadrature needs points
in the plane, at most two latents and a Gaussian decoder; without it modes are left, and what the VAE's bound says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from vaebm import metrics
from vaebm.experiment.evaluation import SAMPLED, Evaluation, Job, Wanted
from vaebm.experiment.quadrature import plane_quadrature
from vaebm.metrics.measurement import Measurement
from vaebm.models import Show

MODE_NAMES = ("modes_covered", "within_three_sigma", "mode_kl")


class PointEvaluation(Evaluation):
    """Of points; see `Evaluation`."""

    names = ("log_likelihood", "log_z", *MODE_NAMES, "elbo", "seconds_per_thousand")

    def wanted(self, subject: str) -> list[Wanted]:
        shows: tuple[Show | None, ...] = (None,) if subject == "truth" else self.shows
        integrated = subject == "truth" or (self.has_quadrature and subject != "vae_mixture")
        wanted = [Wanted("log_likelihood")] if integrated else []
        wanted += [Wanted(name, show=show) for show in shows for name in MODE_NAMES]
        if subject == "vaebm":
            return wanted + [Wanted("log_z")] * self.has_quadrature + [Wanted("seconds_per_thousand")]
        return wanted + [Wanted("elbo")] * (subject == "vae")

    @property
    def has_quadrature(self) -> bool:
        """Whether the model's density can be integrated."""
        vae, moves_codes = self.model.vae, self.model.moves.follows_h  # else samples are not of h
        return self.model.data_shape == (2,) and vae.latent_dim <= 2 and vae.likelihood.reparameterised and moves_codes

    def jobs(self) -> list[tuple[str, Job]]:
        return [("truth", self._truth), *((subject, partial(self._sampled, subject)) for subject in SAMPLED)]

    def _truth(self, _: Sequence[Wanted]) -> list[Measurement]:
        truth, points = self.data.truth, self.data.test.all()
        assert truth is not None
        log_prob = truth.log_prob(points).double()
        stderr = float(log_prob.std() / len(points) ** 0.5)
        settings = {"split": "test"}
        likelihood = Measurement("log_likelihood", float(log_prob.mean()), stderr, len(points), settings, "truth")
        return [likelihood, *self._modes("truth", points)]

    def _sampled(self, subject: str, wanted: Sequence[Wanted]) -> list[Measurement]:
        found: list[Measurement] = []
        names = {w.name for w in wanted}
        if names & {"log_likelihood", "log_z"}:
            density = plane_quadrature(self.model, with_energy=subject == "vaebm")
            likelihood = density.log_likelihood(self.data.test.all()).with_subject(subject)
            found.append(likelihood.with_settings(split="test"))
            method = {"method": "quadrature"}
            found.append(Measurement("log_z", density.log_z, density.error, len(self.data.test), method, subject))
        if names & {*MODE_NAMES, "seconds_per_thousand"}:
            presented = self._presented(subject, wanted)
            shown, seconds = self._draw(subject, self.n, presented)
            for present, shows in presented.items():
                modes = self._modes(subject, shown[present])
                found += [m.with_settings(show=show) for show in shows for m in modes]
            found.append(seconds)
        return [*found, self._elbo()] if "elbo" in names else found

    def _modes(self, subject: str, points: Tensor) -> list[Measurement]:
        truth = self.data.truth
        assert truth is not None
        return [m.with_subject(subject) for m in metrics.mode_measurements(points, truth.modes, truth.scale).values()]
