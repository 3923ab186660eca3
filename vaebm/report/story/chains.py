"""Chains: how the energy leads samples from where they start to where they end."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from vaebm.data import IMAGES, POINTS, DataSet
from vaebm.report.chains import WatchedChains, film_steps, milestones
from vaebm.report.chapter import Chapter, Film, Plate, Plates
from vaebm.report.exhibits import FRAMES, Exhibits
from vaebm.report.figures import plane, sheet
from vaebm.report.figures.pictures import Panel, side_by_side
from vaebm.report.story.words import STARTS, counted, duration, sampler_in_words, step_label
from vaebm.report.subjects import subject

STRIP_ROWS = 6
COLUMNS_OF_A_PAGE = 3
FILM_SIDE = 6
POINT_FILM_RESOLUTION = 150


def chains_chapter(data: DataSet, exhibits: Exhibits) -> Chapter:
    """From start to end."""
    title = "From start to end, step by step"
    chains = exhibits.chains
    if chains is None:
        return Chapter("chains", title, [f"The chains could not run: {exhibits.refusal}"])
    film = {"image": _image_film, "points": _point_film}[data.modality.name](data, exhibits, chains)
    strip = Plate(chain_picture(data, exhibits, COLUMNS_OF_A_PAGE), _strip_caption(data, exhibits))
    block = Plates([strip] if film is None else [strip, film], 340, 620)
    return Chapter("chains", title, _sentences(exhibits, chains), [block])


def chain_picture(data: DataSet, exhibits: Exhibits, columns: int = 4) -> bytes:
    """Chains at chosen steps, as one PNG: images as a strip, a row a chain; points as maps, `columns` of them a row."""
    assert exhibits.chains is not None
    kept = exhibits.chains.at(milestones(exhibits.total_steps))
    if data.modality is POINTS:
        extent = plane.extent_of(data.train.all())
        shown = [(step_label(step, exhibits.total_steps), exhibits.shown(eps)) for step, eps in kept]
        points = [(label, x[:, :2]) for label, x in shown]
        return plane.snapshots(points, subject("vaebm").colour, extent, [_near(data, x) for _, x in shown], columns)
    fit = sheet.images_that_fit(data.shape, sheet.BUDGET) // len(kept)
    rows = max(2, min(STRIP_ROWS, fit))
    panels = []
    for step, eps in kept:
        tiles = sheet.tiles(exhibits.shown(eps[:rows]))
        scale = max(1, round(112 / tiles.shape[2]))
        panels.append(
            Panel(step_label(step, exhibits.total_steps), "", sheet.sheet(list(tiles[:, None]), scale, gap=8))
        )
    return side_by_side(panels, gutter=8, size=7.0)


def _sentences(exhibits: Exhibits, chains: WatchedChains) -> list[str]:
    sampler, noise = exhibits.model.settings.sampler, exhibits.model.noise
    if exhibits.codes_stay:
        space = f"the space of the pixel noise ({noise.dim - noise.latent_dim:,} dimensions); codes stay where they are"
    else:
        moved = "codes and pixel noise" if noise.data_shape else "codes"
        space = f"the space of all the noise ({moved}, {noise.dim:,} dimensions)"
    setting_out = (
        f"{counted(len(chains.start), 'chain')} started from {STARTS[exhibits.begin]} and took"
        f" {sampler_in_words(sampler)} in {space}. All of it took {duration(chains.seconds)} here."
    )
    sentences = [setting_out]
    if sampler.build().adjusted:
        law = "the model's images given their codes" if exhibits.codes_stay else "the model"
        sentences.append(
            f"{chains.acceptance:.0%} of the moves were accepted: once chains mix, they sample {law} exactly."
        )
    else:
        sentences.append(
            f"An accept step, which this kernel leaves out, would have taken {chains.acceptance:.0%} of the moves:"
            " the closer to 100%, the smaller its bias."
        )
    if chains.warmup:
        sentences.append(f"The first {counted(chains.warmup, 'step')} are the warm-up, which learns the step size.")
    if chains.diverged:
        sentences.append(
            f"{chains.diverged:.1%} of the chains met values that are not finite: lower sampler.step_size or use mala."
        )
    return sentences


def _strip_caption(data: DataSet, exhibits: Exhibits) -> str:
    if data.modality is IMAGES:
        return (
            "Each row is one chain, each column a number of steps taken. See how soon grain goes and strokes connect"
            + ("." if exhibits.codes_stay else ", and whether a chain keeps to its subject or turns to another.")
        )
    beyond = f" Points in {plane.STRAY_NAME} are beyond 3 σ of any mode." if data.truth is not None else ""
    if exhibits.begin == "chosen":
        return (
            "The same chains at several steps. Their starts are chosen by the energy already, so there should be"
            f" little left to do: see whether the modes stay equally full and as tight as those of the data.{beyond}"
        )
    return f"The same chains at several steps. See how they gather where the data are, and how early.{beyond}"


def _image_film(data: DataSet, exhibits: Exhibits, chains: WatchedChains) -> Film | None:
    shape = data.shape
    kept = chains.at(film_steps(exhibits.total_steps, FRAMES))
    side = min(FILM_SIDE, int((sheet.images_that_fit(shape, 2 * sheet.BUDGET) / len(kept)) ** 0.5))
    if side < 2:
        return None
    frames = []
    for _, eps in kept:
        tiles = sheet.tiles(exhibits.shown(eps[: side * side]))
        frames.append(sheet.framed(sheet.sheet([tiles[i : i + side] for i in range(0, len(tiles), side)])))
    height, width, _ = frames[0].shape
    labels = [step_label(step, exhibits.total_steps) for step, _ in kept]
    watch = (
        "Each keeps its code, and so its subject: watch what becomes of details."
        if exhibits.codes_stay
        else "Watch for images that turn into others: those chains cross between kinds."
    )
    caption = f"More chains, as a film. {watch}"
    return Film(sheet.png(np.concatenate(frames)), labels, width, height, caption)


def _point_film(data: DataSet, exhibits: Exhibits, chains: WatchedChains) -> Film:
    extent = plane.extent_of(data.train.all())
    kept = chains.at(film_steps(exhibits.total_steps, FRAMES))
    frames = []
    for _, eps in kept:
        x = exhibits.shown(eps)
        frame = plane.scatter(x[:, :2], subject("vaebm").colour, extent, _near(data, x), POINT_FILM_RESOLUTION)
        frames.append(np.asarray(Image.open(BytesIO(frame)).convert("RGB")))
    height, width, _ = frames[0].shape
    labels = [step_label(step, exhibits.total_steps) for step, _ in kept]
    caption = "The same chains as a film. Watch whether any point crosses from one mode to another."
    return Film(sheet.png(np.concatenate(frames)), labels, width, height, caption, crisp=False)


def _near(data: DataSet, points: Tensor) -> Tensor | None:
    return None if data.truth is None else plane.near_a_mode(points, data.truth.modes, data.truth.scale)
