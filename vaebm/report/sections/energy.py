"""The energy: what it prefers, and whether it can still tell samples from data."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vaebm.evaluation.density_maps import DensityMaps
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.histograms import energy_histograms
from vaebm.report.report_data import ReportData
from vaebm.report.section import Figure, Row, Section
from vaebm.report.subjects import FLOORS, number, subject, with_energy

EXTREMES = 12  # images at either end of the energy's ranking
RANKED = "vae_mixture"  # whose images these are
OVERLAP_BINS = 40
CONTRAST = 3.0  # the map's colours reach this many times the most that the energy adds anywhere: else all is red


def energy_section(report: ReportData) -> Section | None:
    """How the energy ranks data and samples; None for models without chains in noise space."""
    title, sizes = "What the energy sees", report.illustrations.model.sizes
    if report.illustrations.chains is None:
        return None
    if not report.energies:
        where = "reads only codes" if len(sizes) > 1 else "is absent from this recipe"
        return Section("energy", title, [f"The energy {where}, so there is none to draw over x."])
    energies, broken = {}, []
    for key, values in report.energies.items():
        finite = values[values.isfinite()]
        if len(finite):
            energies[key] = finite
        if len(finite) < len(values):
            broken.append(f"{1 - len(finite) / len(values):.1%} of {subject(key).name}")
    sentences = [f"The energy is not finite for {', '.join(broken)}: these are left out."] if broken else []
    floor = next((key for key in FLOORS if key in energies), None)
    if floor is None or len(energies) < 2:
        return Section("energy", title, sentences)
    middle = energies[floor].mean()
    energies = {key: values - middle for key, values in energies.items()}
    rows = [Row([Figure(energy_histograms(energies), _histogram_caption(energies, floor))], 300, 700)]
    densities = report.illustrations.densities
    if densities is not None and densities.energy is not None:
        rows.append(_map(densities, densities.energy))
    elif report.data.modality.pictured and not broken and RANKED in energies:
        rows.append(_extremes(report, energies[RANKED]))
    return Section("energy", title, [*sentences, _gaps(energies, floor)], rows)


def _gaps(energies: Mapping[str, Tensor], floor: str) -> str:
    said = []
    for key in energies:
        if key != floor:
            stderr = math.hypot(*(float(e.std()) / math.sqrt(len(e)) for e in (energies[floor], energies[key])))
            said.append(f"{number(float(energies[key].mean()))}\u00a0±\u00a0{stderr:.2f} for {subject(key).name}")
    return (
        f"The mean energy of samples lies above that of held-out data by {', '.join(said)}, in nats. At 0, within the"
        " errors, the energy cannot tell samples from data any more."
    )


def _histogram_caption(energies: Mapping[str, Tensor], floor: str) -> str:
    overlaps = [
        f"{subject(key).name} {_overlap(energies[floor], values):.0%}"
        for key, values in energies.items()
        if key != floor
    ]
    return (
        "Low energy means likely. Where a histogram lies on that of the data, this energy cannot tell the two apart;"
        " it would still remove what sticks out to the right. The histograms share this much of their area with the"
        f" data: {', '.join(overlaps)}. The outermost bars hold the values beyond the ends."
    )


def _overlap(first: Tensor, second: Tensor) -> float:
    """Area that two histograms have in common, of 1."""
    both = torch.cat([first, second])
    low, high = float(both.min()), float(both.max())
    edges = torch.linspace(low, high if high > low else low + 1.0, OVERLAP_BINS + 1)
    fractions = [torch.histogram(values, edges).hist / len(values) for values in (first, second)]
    return float(torch.minimum(*fractions).sum())


def _map(densities: DensityMaps, energy: Tensor) -> Row:
    energy = energy.nan_to_num(0.0, 0.0, 0.0)
    most = float(torch.quantile(energy[::4, ::4].abs().flatten(), 0.9))
    reach = min(most, CONTRAST * -float(energy.min())) if float(energy.min()) < 0 else most
    caption = (
        "The energy over the plane is the log-density of the model without it less that of"
        f" {with_energy(densities.maps).name}. It adds mass where the map is blue and takes mass away where it is red."
        " Far from all data it means little, since no mass is there."
    )
    return Row([Figure(plane.energy_map(energy, densities.extent, reach or 1.0), caption)], 280, 460)


def _extremes(report: ReportData, energies: Tensor) -> Row:
    images = report.samples(RANKED, show="sample")
    assert images is not None
    count = min(EXTREMES, len(energies) // 2, sheet.images_that_fit(report.data.shape, sheet.BUDGET) // 2)
    order = energies.argsort()
    shown = sheet.tiles(images[torch.cat([order[:count], order[-count:].flip(0)])])
    caption = (
        f"Of {len(energies):,} samples of the VAE with the code mixture, the upper row shows those that the energy"
        f" likes best and the lower row those that it likes least ({number(float(energies[order[0]]), True)} to"
        f" {number(float(energies[order[-1]]), True)} nats against the mean of the data). Chains move away from the"
        " lower row."
    )
    return Row([Figure(sheet.png(sheet.wide_sheet(shown, count)), caption)], 300, 900)
