"""Points: the densities of the models on one scale, and their samples among the modes."""

import torch
from torch import Tensor

from vaebm.data import ModesTruth
from vaebm.evaluation.density_maps import DensityMaps, extent_of
from vaebm.evaluation.metric import quantity
from vaebm.report.figures import plane
from vaebm.report.report_data import ReportData
from vaebm.report.section import Figure, Row, Section
from vaebm.report.sections.samples import refusals
from vaebm.report.subjects import in_order, subject

POINTS_SHOWN = 2_000
WHAT_IT_IS = {
    "truth": "The data were drawn from this density.",
    "vae": "One smooth decoder over a Gaussian of codes has to cover the gaps to reach the modes.",
    "vae_mixture": "The decoder is the same, and codes come from the mixture fitted to those of the data.",
    "vaebm": "This is the VAE times exp(−E), normalised. The gaps empty, and the modes sharpen.",
}


def density_section(report: ReportData) -> Section | None:
    """Samples of points, and densities where the family has them; None for other data."""
    densities = report.illustrations.densities
    if report.data.modality.pictured or report.data.columns is not None:
        return None
    rows, sentences = [_samples(report)], refusals(report)
    if densities is None:
        return Section("samples", "What the models make of noise", sentences, rows)
    if densities.refusal:
        sentences.insert(0, f"There are no maps of densities: {densities.refusal}.")
    else:
        caption = (
            f"The colours of all these maps span {plane.NATS_SHOWN:.0f} nats below the highest density. White is less."
        )
        scale = Row([Figure(plane.density_scale(_highest(densities)), caption)], 260, 420)
        rows = [_maps(report, densities), scale, *rows]
        sentences.insert(
            0,
            "Densities are exact: they are integrals over all codes by quadrature, with an error below"
            f" {densities.error:.1g} nats on these grids.",
        )
    return Section("samples", "Where the models put their mass", sentences, rows)


def comparison_of_points(report: ReportData) -> bytes:
    """Data and models side by side, as one PNG: densities where they are known, else samples."""
    densities = report.illustrations.densities
    if densities is None or densities.refusal:
        clouds = [
            plane.Cloud(subject(key).label, x, subject(key).colour, plane.near_a_mode(x, report.data.truth))
            for key, x in _clouds(report).items()
        ]
        return plane.row_of_clouds(clouds, extent_of(report.data.train.all()))
    numbers = _log_likelihoods(report, densities)
    maps = [
        (subject(key).label, f"log-likelihood {numbers[key]}" if key in numbers else "", log_density)
        for key in in_order(set(densities.maps))
        for log_density in [densities.maps[key]]
    ]
    return plane.row_of_maps(maps, densities.extent, _highest(densities))


def _maps(report: ReportData, densities: DensityMaps) -> Row:
    numbers = _log_likelihoods(report, densities)
    figures = []
    for key in in_order(set(densities.maps)):
        picture = plane.density_map(densities.maps[key], densities.extent, _highest(densities))
        number = f"Log-likelihood {numbers[key]}. " if key in numbers else ""
        figures.append(Figure(picture, number + WHAT_IT_IS.get(key, ""), subject(key).label, subject(key).colour))
    return Row(figures, 220, 360)


def _samples(report: ReportData) -> Row:
    figures, extent = [], extent_of(report.data.train.all())
    for key, x in _clouds(report).items():
        near, caption = plane.near_a_mode(x, report.data.truth), f"{len(x):,} points are shown."
        if near is not None:
            caption = f"{near.float().mean():.1%} of these {len(x):,} points are within 3 σ of a mode."
        picture = plane.scatter(x, subject(key).colour, extent, near)
        figures.append(Figure(picture, caption, subject(key).label, subject(key).colour))
    shared = f"{report.origin}. A good model leaves the space between the modes empty."
    if isinstance(report.data.truth, ModesTruth):
        shared += f" Points in {plane.STRAY_NAME} are beyond 3 standard deviations of any mode."
    return Row(figures, 220, 360, shared)


def _clouds(report: ReportData) -> dict[str, Tensor]:
    found = {key: report.samples(key, POINTS_SHOWN) for key in report.subjects}
    return {key: x for key, x in found.items() if x is not None}


def _log_likelihoods(report: ReportData, densities: DensityMaps) -> dict[str, str]:
    """As measured; where that is missing, on fewer points and the grids of the maps."""
    measured = [m for m in report.measurements if m.name == "log_likelihood"]
    numbers = {m.subject: m for m in [*densities.log_likelihoods, *measured]}
    return {key: quantity(m.name).said(m) for key, m in numbers.items()}


def _highest(densities: DensityMaps) -> float:
    return max(float(torch.nan_to_num(log_density, neginf=-1e9).max()) for log_density in densities.maps.values())
