"""Chains: how the energy leads samples from where they start to where they end."""

from io import BytesIO

import numpy as np
from PIL import Image

from vaebm.data import DataSet, ModesTruth
from vaebm.evaluation.chain_record import ChainRecord, animation_steps, milestones
from vaebm.evaluation.density_maps import extent_of
from vaebm.report.figures import plane, sheet
from vaebm.report.report_data import ReportData
from vaebm.report.section import Animation, Figure, Row, Section
from vaebm.report.subjects import STARTS, WITH_ENERGY, step_label, subject
from vaebm.wording import counted, duration

STRIP_ROWS = 6
COLUMNS_OF_A_PAGE = 3
ANIMATION_SIDE = 6
POINT_RESOLUTION = 150  # dots per inch of an animation


def chains_section(report: ReportData) -> Section | None:
    """From start to end; None for models without chains."""
    title, chains = "From start to end, step by step", report.illustrations.chains
    if chains is None:
        return None
    if report.data.columns is not None and not chains.run.refusal:
        return Section("chains", title, _sentences(chains))
    if chains.run.refusal:
        return Section("chains", title, [f"The chains could not run: {chains.run.refusal}"])
    strip = Figure(chain_picture(report.data, chains, COLUMNS_OF_A_PAGE), _strip_caption(report.data, chains))
    animation = {"image": _image_animation, "points": _point_animation}[report.data.modality.name](report.data, chains)
    return Section(
        "chains", title, _sentences(chains), [Row([strip] if animation is None else [strip, animation], 340, 620)]
    )


def chain_picture(data: DataSet, chains: ChainRecord, columns: int = 4) -> bytes:
    """Chains at chosen steps, as one PNG: images as a strip, a row a chain; points as maps, `columns` of them a row."""
    kept = [(step_label(step, chains.total), x) for step, x in chains.at(milestones(chains.total))]
    if not data.modality.pictured:
        clouds = [
            plane.Cloud(label, x, subject(WITH_ENERGY[0]).colour, plane.near_a_mode(x, data.truth)) for label, x in kept
        ]
        return plane.snapshots(clouds, extent_of(data.train.all()), columns)
    rows = max(2, min(STRIP_ROWS, sheet.images_that_fit(data.shape, sheet.BUDGET) // len(kept)))
    panels = []
    for label, x in kept:
        tiles = sheet.tiles(x[:rows])
        scale = max(1, round(112 / tiles.shape[2]))
        panels.append(sheet.Panel(label, "", sheet.sheet(list(tiles[:, None]), scale, gap=8)))
    return sheet.side_by_side(panels, gutter=8, size=7.0)


def _sentences(chains: ChainRecord) -> list[str]:
    run = chains.run
    codes = run.moves_codes and run.start != "base"
    moved = [noun for noun, moves in (("codes", codes), ("pixel noise", run.moves_data)) if moves]
    fixed = "" if run.moves_codes else ", while codes stayed as they were drawn"
    sentences = [f"{counted(run.chains, 'chain')} started from {STARTS[run.start]} and took {run.sampler}."]
    sentences[0] += f" They moved {' and '.join(moved)} ({counted(run.dim, 'dimension')}){fixed}."
    sentences[0] += f" This took {duration(run.seconds)}."
    if run.adjusted:
        law = "the model" if run.moves_codes else "the model's images given their codes"
        sentences.append(
            f"{run.acceptance:.0%} of the moves were accepted. Once chains mix, they sample {law} exactly."
        )
    else:
        sentences.append(
            f"This kernel has no accept step, which would have taken {run.acceptance:.0%} of the moves. The closer that"
            " is to 100%, the smaller is its bias."
        )
    if run.warmup:
        sentences.append(f"The first {counted(run.warmup, 'step')} are the warm-up, which learns the step size.")
    if run.diverged:
        sentences.append(
            f"{run.diverged:.1%} of the chains met values that are not finite: lower sampler.step_size or use mala."
        )
    return sentences


def _strip_caption(data: DataSet, chains: ChainRecord) -> str:
    if data.modality.pictured:
        kept = "." if not chains.run.moves_codes else ", and whether a chain keeps to its subject or turns to another."
        return (
            f"Each row is one chain, each column a number of steps. See how soon grain goes and strokes connect{kept}"
        )
    beyond = f" Points in {plane.STRAY_NAME} are beyond 3 σ of any mode." if isinstance(data.truth, ModesTruth) else ""
    if chains.run.start == "chosen":
        return (
            "These are the same chains at several steps. The energy has chosen their starts already, so little is left"
            f" to do: the modes should stay equally full and as tight as those of the data.{beyond}"
        )
    return f"These are the same chains at several steps. See how early they gather where the data are.{beyond}"


def _image_animation(data: DataSet, chains: ChainRecord) -> Animation | None:
    kept = chains.at(animation_steps(chains.total))
    fit = sheet.images_that_fit(data.shape, 2 * sheet.BUDGET) // len(kept)
    side = min(ANIMATION_SIDE, int(min(fit, chains.x.shape[1]) ** 0.5))
    if side < 2:
        return None
    frames = []
    for _, x in kept:
        tiles = sheet.tiles(x[: side * side])
        frame = sheet.sheet([tiles[i : i + side] for i in range(0, len(tiles), side)])
        frames.append(np.pad(frame, ((1, 1), (1, 1), (0, 0)), constant_values=sheet.PAPER))
    watch = (
        "An image that turns into another belongs to a chain that crosses between kinds."
        if chains.run.moves_codes
        else "Each chain keeps its code, and so its subject, while details change."
    )
    return _animation(chains, frames, f"This animation shows more chains. {watch}", crisp=True)


def _point_animation(data: DataSet, chains: ChainRecord) -> Animation:
    extent = extent_of(data.train.all())
    frames = []
    for _, x in chains.at(animation_steps(chains.total)):
        near = plane.near_a_mode(x, data.truth)
        frame = plane.scatter(x, subject(WITH_ENERGY[0]).colour, extent, near, POINT_RESOLUTION)
        frames.append(np.asarray(Image.open(BytesIO(frame)).convert("RGB")))
    caption = "This animation shows the same chains. Watch whether any point crosses from one mode to another."
    return _animation(chains, frames, caption, crisp=False)


def _animation(chains: ChainRecord, frames: list[sheet.Pixels], caption: str, crisp: bool) -> Animation:
    labels = [step_label(step, chains.total) for step, _ in chains.at(animation_steps(chains.total))]
    height, width, _ = frames[0].shape
    picture = sheet.png(np.concatenate(frames))
    return Animation(picture, caption, labels=labels, width=width, height=height, crisp=crisp)
