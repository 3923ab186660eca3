"""Words that several chapters share: how durations, counts, samplers and starts are called."""

from __future__ import annotations

from vaebm.report.exhibits import Start
from vaebm.sampling import SamplerSettings

SHOWN = {
    "sample": "with their pixel noise",
    "mean": "as decoder means, without pixel noise",
    "denoised": "denoised: the estimate of the clean image under the energy, and decoder means without one",
}
STARTS: dict[Start, str] = {
    "prior": "the VAE's prior",
    "mixture": "the code mixture",
    "latent_energy": "codes that follow the energy on them, E(z), with the VAE's pixel noise",
    "chosen": "draws among which the energy on x chose",
}


def duration(seconds: float) -> str:
    """'3.1 s', '42 s', '4 min', '2.1 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """'1 weight', '12 weights', '1.2 million weights'."""
    number = f"{count / 1e6:.1f} million" if count >= 1_000_000 else f"{count:,}"
    return f"{number} {noun}" + ("" if count == 1 else "s")


def number(value: float, sign: bool = False) -> str:
    """'−12.30', with a true minus; '+0.40' where the sign is to be seen."""
    return f"{value:{'+' if sign else ''},.2f}".replace("-", "−")


def sampler_in_words(sampler: SamplerSettings) -> str:
    """'60 steps of Langevin', with the warm-up where there is one."""
    warmup = f" after a warm-up of {sampler.warmup}" if sampler.warmup else ""
    return f"{counted(sampler.steps, 'step')} of {sampler.builds.label}{warmup}"


def step_label(step: int, total: int) -> str:
    """'start', '1 step', '20 steps', 'end (60)'."""
    if step == 0:
        return "start"
    return f"end ({step:,})" if step == total else counted(step, "step")
