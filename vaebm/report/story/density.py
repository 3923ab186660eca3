"""Points: the densities of the models on one scale, and their samples among the modes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vaebm.data import DataSet
from vaebm.errors import InputError
from vaebm.evaluation.metric import quantity
from vaebm.metrics.measurement import Measurement
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.densities import Densities, densities
from vaebm.report.exhibits import Exhibits
from vaebm.report.figures import plane
from vaebm.report.figures.plane_row import row_of_clouds, row_of_maps
from vaebm.report.subjects import in_order, subject


def density_chapter(
    data: DataSet, exhibits: Exhibits, found: Densities | str, measured: Sequence[Measurement]
) -> Chapter:
    """What the models make, as densities and as samples; `found` are the densities or why there are none."""
    blocks = [_samples(data, exhibits)]
    sentences = []
    if isinstance(found, str):
        sentences.append(f"There are no maps of densities: {found}.")
    else:
        blocks = [_maps(found, measured), _scale(found), *blocks]
        sentences.append(
            f"Densities are exact: integrals over all codes, by quadrature, with an error below {found.error:.1g}"
            " nats on these grids."
        )
    if exhibits.chains is None:
        sentences.append(f"There are no samples of the VAEBM, since its chains could not run: {exhibits.refusal}")
    return Chapter("samples", "Where the models put their mass", sentences, blocks)


def densities_or_reason(data: DataSet, exhibits: Exhibits, measured: Sequence[Measurement]) -> Densities | str:
    """The densities of the exhibits' model, or the sentence that says why there are none."""
    known = {m.subject for m in measured if m.name == "log_likelihood"}
    try:
        return densities(exhibits.model, data, plane.extent_of(data.train.all()), exhibits.held_out, known)
    except InputError as reason:
        return str(reason)


def comparison_picture(
    data: DataSet, exhibits: Exhibits, found: Densities | str, measured: Sequence[Measurement]
) -> bytes:
    """Data and models side by side, as one PNG: densities where they are known, else samples."""
    if isinstance(found, str):
        clouds = [
            (subject(key).label, x[:, :2], subject(key).colour, _near(data, x)) for key, x in _clouds(exhibits).items()
        ]
        return row_of_clouds(clouds, plane.extent_of(data.train.all()))
    numbers = {key: f"log-likelihood {number}" for key, number in _log_likelihoods(found, measured).items()}
    maps = [(subject(key).label, numbers.get(key, ""), log_density) for key, log_density in found.maps.items()]
    return row_of_maps(maps, found.extent, _highest(found))


def _maps(found: Densities, measured: Sequence[Measurement]) -> Plates:
    numbers = _log_likelihoods(found, measured)
    what = {
        "truth": "What the data were drawn from.",
        "vae": "One smooth decoder over a Gaussian of codes: to reach the modes it has to cover the gaps.",
        "vae_mixture": "The same decoder, codes from the mixture fitted to those of the data.",
        "vaebm": "The VAE times exp(−E), normalised. See how the gaps empty and the modes sharpen.",
    }
    plates = []
    for key in in_order(set(found.maps)):
        picture = plane.density_map(found.maps[key], found.extent, _highest(found))
        caption = f"Log-likelihood {numbers[key]}. {what[key]}" if key in numbers else what[key]
        plates.append(Plate(picture, caption, subject(key).label, subject(key).colour))
    return Plates(plates, 220, 360)


def _scale(found: Densities) -> Plates:
    caption = f"The colours of all these maps: {plane.NATS_SHOWN:.0f} nats below the highest density; white is less."
    return Plates([Plate(plane.density_scale(_highest(found)), caption)], 260, 420)


def _samples(data: DataSet, exhibits: Exhibits) -> Plates:
    extent = plane.extent_of(data.train.all())
    plates = []
    for key, x in _clouds(exhibits).items():
        near, caption = _near(data, x), f"{len(x):,} points."
        if near is not None:
            caption = f"{near.float().mean():.1%} of {len(x):,} points are within 3 σ of a mode."
        picture = plane.scatter(x[:, :2], subject(key).colour, extent, near)
        plates.append(Plate(picture, caption, subject(key).label, subject(key).colour))
    shared = "Samples of each; see what lies between the modes."
    if data.truth is not None:
        shared = (
            f"Samples of each. Those in {plane.STRAY_NAME} are beyond 3 standard deviations of any mode: the fewer,"
            " the better."
        )
    return Plates(plates, 220, 360, shared)


def _clouds(exhibits: Exhibits) -> dict[str, Tensor]:
    return {
        "held_out": exhibits.held_out,
        **{str(key): exhibits.shown(eps, key) for key, eps in exhibits.noise.items()},
    }


def _near(data: DataSet, points: Tensor) -> Tensor | None:
    return None if data.truth is None else plane.near_a_mode(points, data.truth.modes, data.truth.scale)


def _log_likelihoods(found: Densities, measured: Sequence[Measurement]) -> dict[str, str]:
    """As measured; where that is missing, on fewer points and the grids of the maps."""
    numbers = {m.subject: m for m in [*found.log_likelihoods, *(m for m in measured if m.name == "log_likelihood")]}
    return {key: quantity(m.name).said(m) for key, m in numbers.items()}


def _highest(found: Densities) -> float:
    return max(float(torch.nan_to_num(log_density, neginf=-1e9).max()) for log_density in found.maps.values())
