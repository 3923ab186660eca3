"""Sampler settings: each kernel has its own, and what is out of range is refused by its path."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from vaebm import sampling
from vaebm.sampling import Sampler, SamplerSettings
from vaebm.sampling.hmc import HMC
from vaebm.sampling.langevin import MALA, Langevin
from vaebm.sampling.mclmc import MCLMC, AdjustedMCLMC
from vaebm.sampling.tempering import Tempering
from vaebm.sampling.underdamped import Underdamped

ADAPTER: TypeAdapter[SamplerSettings] = TypeAdapter(Sampler)


@pytest.mark.parametrize("kind", sampling.KERNELS)
def test_every_kind_builds_its_kernel(kind: str) -> None:
    settings = ADAPTER.validate_python({"kind": kind, "steps": 7, "step_size": 0.02})
    kernel = settings.build()
    assert type(kernel) is sampling.KERNELS[kind]
    assert settings.steps == 7
    mass = torch.tensor([0.25, 1.0])
    built = settings.build(mass)
    moving = [getattr(built, name) for name in ("kernel", "first", "second") if hasattr(built, name)] or [built]
    assert torch.equal(torch.cat([kernel.inverse_mass for kernel in moving]), mass)
    assert all(kernel.step_size == 0.02 for kernel in moving)
    assert ADAPTER.validate_python(settings.model_dump()) == settings
    assert set(ADAPTER.json_schema()["discriminator"]["mapping"]) == set(sampling.KERNELS)


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        (("langevin", "step_size"), {"kind": "langevin", "step_size": 0.0}),
        (("langevin", "step_size"), {"kind": "langevin", "step_size": float("inf")}),
        (("langevin", "temperature"), {"kind": "langevin", "temperature": -1.0}),
        (("underdamped", "friction"), {"kind": "underdamped", "friction": 0.0}),
        (("hmc", "num_leapfrog_steps"), {"kind": "hmc", "num_leapfrog_steps": -3}),
        (("hmc", "step_size_jitter"), {"kind": "hmc", "step_size_jitter": -0.5}),
        (("hmc", "jitter"), {"kind": "hmc", "jitter": 1.5}),
        (("mala", "steps"), {"kind": "mala", "steps": 0}),
        (("mala", "target_acceptance"), {"kind": "mala", "target_acceptance": 1.0}),
        (("mclmc", "decoherence"), {"kind": "mclmc", "decoherence": 0}),
        (("tempering", "betas"), {"kind": "tempering", "betas": [1.0, 0.5, 0.7]}),
        (("tempering", "betas"), {"kind": "tempering", "betas": [0.9, 0.5]}),
        (("tempering", "betas"), {"kind": "tempering", "betas": [1.0]}),
        (("tempering", "betas"), {"kind": "tempering", "betas": [1.0, 0.0]}),
        (("langevin", "num_leapfrog_steps"), {"kind": "langevin", "num_leapfrog_steps": 3}),
    ],
)
def test_out_of_range_is_refused_by_its_path(path: tuple[str, ...], settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as failure:
        ADAPTER.validate_python(settings)
    assert failure.value.errors()[0]["loc"] == path


def test_kernels_refuse_the_same_from_python() -> None:
    for make in (Langevin, Underdamped, MALA, HMC, MCLMC, AdjustedMCLMC):
        with pytest.raises(ValueError, match=r"step_size is 0\.0; it has to be a finite number above 0"):
            make(step_size=0.0)
    with pytest.raises(ValueError, match="noise_scale is -1"):
        Langevin(noise_scale=-1)
    with pytest.raises(ValueError, match=r"target_acceptance is 1\.0"):
        MALA(target_acceptance=1.0)
    with pytest.raises(ValueError, match="jitter is 2"):
        HMC(jitter=2)
    with pytest.raises(ValueError, match=r"betas\[2\] is 0.7 after 0.5"):
        Tempering(betas=(1.0, 0.5, 0.7))


def test_detuned_noise_says_the_temperature_it_implies() -> None:
    assert Langevin(temperature=2.0, noise_scale=0.5).implied_temperature == 0.5
