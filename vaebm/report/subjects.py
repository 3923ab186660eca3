"""Subjects: whose samples are shown and measured, what people call them, and the colour that each keeps on every page.

The order is that of a page: what is to be reached (held-out data, the truth), then the VAE, the same VAE with
its codes drawn from a mixture, the VAE with its energy; last its reconstructions, which bound what the decoder can
do. The colours are told apart with any common colour blindness, and in grey (Okabe & Ito 2008, the data in slate).

Below them stands how shows, starts, steps and numbers are called.
"""

from collections.abc import Collection
from dataclasses import dataclass

from vaebm.evaluation.chain_record import Start
from vaebm.wording import counted


@dataclass(frozen=True)
class Subject:
    """One of them."""

    key: str  # as measurements have it
    name: str  # in a sentence, with its article
    label: str  # in a legend
    heading: str  # over a narrow column, in two lines
    colour: str  # of its marks


SUBJECTS = {
    subject.key: subject
    for subject in (
        Subject("held_out", "held-out data", "held-out data", "held-out\ndata", "#4b5563"),
        Subject("truth", "the truth", "truth", "the\ntruth", "#4b5563"),
        Subject("vae", "the VAE", "VAE", "\nVAE", "#e69f00"),
        Subject("vae_mixture", "the VAE with the code mixture", "VAE + code mixture", "VAE +\nmixture", "#009e73"),
        Subject("start", "the start of the chains", "start of chains", "chains'\nstart", "#cc79a7"),
        Subject("vaebm", "the VAEBM", "VAEBM", "\nVAEBM", "#0072b2"),
        Subject("cebm", "the CEBM", "CEBM", "\nCEBM", "#d55e00"),
        Subject("vaebm_long", "the VAEBM with longer chains", "longer chains", "longer\nchains", "#56b4e9"),
        Subject("reconstruction", "the VAE's reconstructions", "reconstructions", "recon-\nstructed", "#9ca3af"),
    )
}
FLOORS = ("held_out", "truth")
WITH_ENERGY, RECONSTRUCTION = ("vaebm", "cebm"), "reconstruction"


def subject(key: str) -> Subject:
    """The subject of that key; one of its own name and a neutral colour where a later version measured another."""
    words = key.replace("_", " ")
    return SUBJECTS.get(key) or Subject(key, words, words, words, "#6b7280")


def with_energy(keys: Collection[str]) -> Subject:
    """Of the subjects of one run, that of the model with its energy."""
    return subject(next((key for key in WITH_ENERGY if key in keys), WITH_ENERGY[0]))


def in_order(keys: set[str]) -> list[str]:
    """Keys in the order of a page, unknown ones last."""
    known = [key for key in SUBJECTS if key in keys]
    return known + sorted(keys - SUBJECTS.keys())


SHOWN = {
    "sample": "with the pixel noise",
    "mean": "as decoder means",
    "scaled": "with their pixel noise times the scale that serves each best on validation images",
    "denoised": "denoised, without an energy as decoder means",
}
STARTS: dict[Start, str] = {
    "prior": "the VAE's prior",
    "base": "the base density, independent Gaussian values",
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
