"""Wording that several sections share: how shows, starts, steps and numbers are called."""

from vaebm.evaluation.chain_record import Start
from vaebm.wording import counted

SHOWN = {
    "sample": "with the pixel noise",
    "mean": "as decoder means",
    "denoised": "denoised, without an energy as decoder means",
}
STARTS: dict[Start, str] = {
    "prior": "the VAE's prior",
    "mixture": "the code mixture",
    "latent_energy": "codes that follow the energy on them, E(z), with the VAE's pixel noise",
    "chosen": "draws among which the energy on x chose",
}


def number(value: float, sign: bool = False) -> str:
    """'−12.30', with a true minus; '+0.40' where the sign is to be seen."""
    return f"{value:{'+' if sign else ''},.2f}".replace("-", "−")


def step_label(step: int, total: int) -> str:
    """'start', '1 step', '20 steps', 'end (60)'."""
    if step == 0:
        return "start"
    return f"end ({step:,})" if step == total else counted(step, "step")
