"""The energy: what it prefers, and whether it can still tell samples from data."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vaebm.data import modality_of
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.densities import Densities
from vaebm.report.exhibits import Exhibits
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.energies import energy_histograms
from vaebm.report.story.words import number
from vaebm.report.subjects import in_order, subject

EXTREMES = 12  # images at either end of the energy's ranking
OVERLAP_BINS = 40
CONTRAST = 3.0  # the map's colours reach this many times the most that the energy adds anywhere: else all is red


def energy_chapter(exhibits: Exhibits, found: Densities | str | None) -> Chapter:
    """How the energy ranks data and samples."""
    title = "What the energy sees"
    energies = exhibits.energies
    if not exhibits.model.corrects:
        where = "only of the codes" if exhibits.model.energy_net.base is not None else "absent from this recipe"
        return Chapter(
            "energy", title, [f"The energy is {where} (energy.image is null), so there is none to draw over x."]
        )
    broken = [f"{share:.1%} of {subject(key).name}" for key, share in exhibits.broken.items()]
    sentences = [f"The energy is not finite for {', '.join(broken)}: these are left out."] if broken else []
    if not energies:
        return Chapter("energy", title, sentences)
    blocks = [Plates([Plate(energy_histograms(energies), _histogram_caption(energies))], 300, 700)]
    if isinstance(found, Densities) and found.energy is not None:
        blocks.append(_map(found))
    elif modality_of(exhibits.model.data_shape).pictured and "vae_mixture" not in exhibits.broken:
        blocks.append(_extremes(exhibits))
    return Chapter("energy", title, [*sentences, _gaps(energies)], blocks)


def _gaps(energies: Mapping[str, Tensor]) -> str:
    data = energies["held_out"]
    said = []
    for key in in_order(set(energies) - {"held_out"}):
        gap = float(energies[key].mean())
        stderr = math.hypot(*(float(e.std()) / math.sqrt(len(e)) for e in (data, energies[key])))
        said.append(f"{number(gap)}\u00a0±\u00a0{stderr:.2f} for {subject(key).name}")
    return (
        f"Above held-out data the energies of samples lie, in the mean and in nats, by {', '.join(said)}. At 0,"
        " within the errors, the energy cannot tell samples from data any more."
    )


def _histogram_caption(energies: Mapping[str, Tensor]) -> str:
    overlaps = [
        f"{subject(key).name} {_overlap(energies['held_out'], energies[key]):.0%}"
        for key in in_order(set(energies) - {"held_out"})
    ]
    return (
        "Low energy means likely. Where a histogram lies on that of the data, this energy cannot tell the two apart;"
        " what sticks out to the right is what it would still remove. Share of area in common with the data:"
        f" {', '.join(overlaps)}. Values beyond the ends are drawn in the outermost bars."
    )


def _overlap(first: Tensor, second: Tensor) -> float:
    """Area that two histograms have in common, of 1."""
    both = torch.cat([first, second])
    low, high = float(both.min()), float(both.max())
    edges = torch.linspace(low, high if high > low else low + 1.0, OVERLAP_BINS + 1)
    shares = [torch.histogram(values, edges).hist / len(values) for values in (first, second)]
    return float(torch.minimum(*shares).sum())


def _map(found: Densities) -> Plates:
    assert found.energy is not None
    energy = found.energy.nan_to_num(0.0, 0.0, 0.0)
    most = float(torch.quantile(energy[::4, ::4].abs().flatten(), 0.9))
    reach = min(most, CONTRAST * -float(energy.min())) if float(energy.min()) < 0 else most
    caption = (
        "The energy over the plane, which is the log-density of the VAE less that of the VAEBM. Blue is where it adds"
        " mass, red is where it takes mass away. Far from all data it means little: nothing is there to take away."
    )
    return Plates([Plate(plane.energy_map(energy, found.extent, reach or 1.0), caption)], 280, 460)


def _extremes(exhibits: Exhibits) -> Plates:
    energies = exhibits.energies["vae_mixture"]
    count = min(EXTREMES, len(energies) // 2, sheet.images_that_fit(exhibits.model.data_shape, sheet.BUDGET) // 2)
    order = energies.argsort()
    chosen = torch.cat([order[:count], order[-count:].flip(0)])
    shown = sheet.tiles(exhibits.shown(exhibits.noise["vae_mixture"][chosen], "vae_mixture", "sample"))
    scale = max(1, 2 * sheet.SHEET_PIXELS // (count * shown.shape[2]))
    paper = sheet.sheet([shown[:count], shown[count:]], scale, gap=max(3, scale))
    caption = (
        f"Of {len(energies):,} samples of the VAE with the code mixture, above those that the energy likes best,"
        f" below those that it likes least ({number(float(energies[order[0]]), True)} to"
        f" {number(float(energies[order[-1]]), True)} nats against the data's mean). The lower row shows what the"
        " chains move away from."
    )
    return Plates([Plate(sheet.png(paper), caption)], 300, 900)
