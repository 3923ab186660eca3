"""The energy: what it prefers, and whether it can still tell samples from data."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.densities import Densities
from vaebm.report.exhibits import Exhibits
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.energies import energy_histograms
from vaebm.report.subjects import in_order, subject
from vaebm.report.verdict import SURE

EXTREMES = 12  # images at either end of the energy's ranking
OVERLAP_BINS = 40


def energy_chapter(exhibits: Exhibits, found: Densities | str | None) -> Chapter:
    """How the energy ranks data and samples."""
    title = "What the energy sees"
    energies = exhibits.energies
    if exhibits.model.energy_net.image is None:
        where = "only of the codes" if exhibits.model.energy_net.latent is not None else "absent from this recipe"
        return Chapter(
            "energy", title, [f"The energy is {where} (energy.image is null), so there is none to draw over x."]
        )
    broken = [f"{share:.1%} of {subject(key).name}" for key, share in exhibits.broken.items()]
    sentences = [f"The energy is not finite for {', '.join(broken)}: these are left out."] if broken else []
    if not energies:
        return Chapter("energy", title, sentences)
    blocks = [Plates([Plate(energy_histograms(energies), _histogram_caption(energies))], 300, 760)]
    if isinstance(found, Densities) and found.energy is not None:
        blocks.append(_map(found))
    elif len(exhibits.model.data_shape) == 3 and "vae_mixture" not in exhibits.broken:
        blocks.append(_extremes(exhibits))
    return Chapter("energy", title, [*sentences, _gaps(energies)], blocks)


def _gaps(energies: Mapping[str, Tensor]) -> str:
    data = energies["held_out"]
    said = []
    for key in in_order(set(energies) - {"held_out"}):
        gap = float(energies[key].mean())
        stderr = math.hypot(*(float(e.std()) / math.sqrt(len(e)) for e in (data, energies[key])))
        far = "not to be told from data" if abs(gap) <= SURE * stderr else "above data" if gap > 0 else "below data"
        said.append(f"{subject(key).name} {abs(gap):.2f} ± {stderr:.2f} nats ({far})")
    return f"In the mean, energies differ from those of held-out data by: {', '.join(said)}."


def _histogram_caption(energies: Mapping[str, Tensor]) -> str:
    overlaps = [
        f"{subject(key).name} {_overlap(energies['held_out'], energies[key]):.0%}"
        for key in in_order(set(energies) - {"held_out"})
    ]
    return (
        "Low energy means likely. Where a histogram lies on that of the data, this energy cannot tell the two apart; what"
        f" sticks out to the right is what it would still remove. Share of area in common with the data: {', '.join(overlaps)}."
        " Values beyond the ends are drawn in the outermost bars."
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
    reach = float(torch.quantile(found.energy[::4, ::4].nan_to_num(0.0, 0.0, 0.0).abs().flatten(), 0.9)) or 1.0
    caption = (
        "The energy over the plane: log p of the VAE (its codes reweighted, where there is an energy on them) less log h of"
        " the VAEBM. Blue is where it adds mass, red is where it takes mass away; far from all data it means little."
    )
    return Plates([Plate(plane.energy_map(found.energy, found.extent, reach), caption)], 280, 440)


def _extremes(exhibits: Exhibits) -> Plates:
    energies = exhibits.energies["vae_mixture"]
    count = min(EXTREMES, len(energies) // 2, sheet.images_that_fit(exhibits.model.data_shape, sheet.BUDGET) // 2)
    order = energies.argsort()
    chosen = torch.cat([order[:count], order[-count:].flip(0)])
    shown = sheet.tiles(exhibits.shown(exhibits.noise["vae_mixture"][chosen], "sample"))
    scale = max(1, 2 * sheet.SHEET_PIXELS // (count * shown.shape[2]))
    paper = sheet.sheet([shown[:count], shown[count:]], scale, gap=max(3, scale))
    caption = (
        f"Of {len(energies):,} samples of the VAE with the code mixture, above those that the energy likes best, below those"
        f" that it likes least ({float(energies[order[0]]):+.1f} to {float(energies[order[-1]]):+.1f} nats against the"
        " data's mean). The lower row shows what the chains move away from."
    ).replace("-", "−")
    return Plates([Plate(sheet.png(paper), caption)], 300, 900)
