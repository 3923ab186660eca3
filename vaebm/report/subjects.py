"""Subjects: whose samples are shown and measured, what people call them, and the colour that each keeps on every page.

The order is that of a page: what is to be reached (held-out data, the truth), then the VAE, the same VAE with
its codes drawn from a mixture, the VAE with its energy; last its reconstructions, which bound what the decoder can
do. The colours are told apart with any common colour blindness, and in grey (Okabe & Ito 2008, the data in slate).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """One of them.

    Args:
        key: as measurements have it.
        name: in a sentence, with its article.
        label: in a legend.
        heading: over a narrow column, in two lines.
        colour: of its marks.
    """

    key: str
    name: str
    label: str
    heading: str
    colour: str


SUBJECTS = {
    subject.key: subject
    for subject in (
        Subject("held_out", "held-out data", "held-out data", "held-out\ndata", "#4b5563"),
        Subject("truth", "the truth", "truth", "the\ntruth", "#4b5563"),
        Subject("vae", "the VAE", "VAE", "\nVAE", "#e69f00"),
        Subject("vae_mixture", "the VAE with the code mixture", "VAE + code mixture", "VAE +\nmixture", "#009e73"),
        Subject("start", "the start of the chains", "start of chains", "chains'\nstart", "#cc79a7"),
        Subject("vaebm", "the VAEBM", "VAEBM", "\nVAEBM", "#0072b2"),
        Subject("reconstruction", "the VAE's reconstructions", "reconstructions", "recon-\nstructed", "#9ca3af"),
    )
}
FLOORS = ("held_out", "truth")
WITH_ENERGY, RECONSTRUCTION = "vaebm", "reconstruction"


def subject(key: str) -> Subject:
    """The subject of that key; one of its own name and a neutral colour where a later version measured another."""
    words = key.replace("_", " ")
    return SUBJECTS.get(key) or Subject(key, words, words, words, "#6b7280")


def in_order(keys: set[str]) -> list[str]:
    """Keys in the order of a page, unknown ones last."""
    known = [key for key in SUBJECTS if key in keys]
    return known + sorted(keys - SUBJECTS.keys())
