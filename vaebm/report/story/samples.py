"""Images: what the models make, side by side."""

from __future__ import annotations

from torch import Tensor

from vaebm.data import DataSet
from vaebm.evaluation.metric import quantity
from vaebm.models import Show
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.exhibits import Exhibits
from vaebm.report.figures import sheet
from vaebm.report.figures.pictures import Panel, side_by_side
from vaebm.report.story.words import SHOWN, STARTS, counted, sampler_in_words
from vaebm.report.subjects import subject
from vaebm.report.verdict import Verdict

PAIRS_ACROSS, PAIRS_DOWN = 8, 3


def samples_chapter(data: DataSet, exhibits: Exhibits, decided: Verdict) -> Chapter:
    """What the models make."""
    show = exhibits.model.settings.show
    shared = "The VAE and the VAE with the code mixture share the pixel noise, place by place."
    sentences = [f"Samples of each model, not chosen, {SHOWN[show]}. {shared} {_begin(exhibits)}"]
    other: Show = "sample" if show == "mean" else "mean"
    blocks = [_models(data, exhibits, decided), _other_models(data, exhibits, other)]
    if "vaebm" in exhibits.noise:
        blocks.insert(1, _pairs(exhibits))
    return Chapter("samples", "What the models make of noise", sentences, blocks)


def comparison_picture(data: DataSet, exhibits: Exhibits, decided: Verdict) -> bytes:
    """Data and models side by side, with their numbers, as one PNG."""
    side = sheet.grid_side(data.shape)
    shown: dict[str, Tensor] = {"held_out": exhibits.held_out}
    shown |= {key: exhibits.shown(eps[: side * side], key) for key, eps in exhibits.noise.items()}
    numbers = _numbers(decided)
    return side_by_side(
        [
            Panel(subject(key).label, numbers.get(key, ""), sheet.square_sheet(x, side), subject(key).colour)
            for key, x in shown.items()
        ]
    )


def _models(data: DataSet, exhibits: Exhibits, decided: Verdict) -> Plates:
    side = sheet.grid_side(data.shape)
    captions = _captions(exhibits)
    numbers = _numbers(decided)
    plates = [_plate("held_out", exhibits.held_out, side, numbers.get("held_out"), "What samples should look like.")]
    for key, eps in exhibits.noise.items():
        plates.append(_plate(key, exhibits.shown(eps[: side * side], key), side, numbers.get(key), captions[key]))
    shared = (
        "Compare from left to right: broken and blended shapes should become rarer, and edges as sharp as in the data."
    )
    return Plates(plates, 220, 360, shared)


def _other_models(data: DataSet, exhibits: Exhibits, show: Show) -> Plates:
    side = sheet.grid_side(data.shape)
    through = "Held-out images through encoder and decoder: what this decoder can do."
    plates = [_plate("reconstruction", exhibits.reconstructions, side, None, through)]
    for key, eps in exhibits.noise.items():
        words = f"The samples above, {SHOWN[show]}."
        plates.append(_plate(key, exhibits.shown(eps[: side * side], key, show), side, None, words))
    shared = "The pixel noise is what the means above leave out."
    if show == "mean":
        shared = (
            "In means only the codes differ from one column to the next; what the energy does to the pixel noise"
            " cannot be seen here, and means look smoother than the samples that are measured."
        )
    return Plates(plates, 220, 360, shared)


def _plate(key: str, x: Tensor, side: int, number: str | None, caption: str) -> Plate:
    who = subject(key)
    words = f"{number}. {caption}" if number else caption
    return Plate(sheet.png(sheet.square_sheet(x, side)), words, who.label, who.colour)


def _captions(exhibits: Exhibits) -> dict[str, str]:
    components = exhibits.model.mixture.means.shape[0]
    ends = {
        "mixture": "Each is where the chain ends that began at the image in the same place beside it.",
        "prior": "Each is where the chain ends that began at the VAE's image in the same place.",
        "latent_energy": "Where some of them began is shown below.",
        "chosen": "Where some of them began is shown below.",
    }
    return {
        "vae": "Codes from the prior, which also reaches where no data have any.",
        "vae_mixture": f"The same decoder, codes from {counted(components, 'Gaussian')} fitted to those of the data:"
        " the baseline to beat, for seconds of work.",
        "vaebm": f"After {sampler_in_words(exhibits.model.settings.sampler)}. " + ends.get(exhibits.begin, ""),
    }


def _begin(exhibits: Exhibits) -> str:
    if exhibits.chains is None:
        return f"There are none of the VAEBM, since its chains could not run: {exhibits.refusal}"
    return f"The chains of the VAEBM start from {STARTS[exhibits.begin]}."


def _pairs(exhibits: Exhibits) -> Plates:
    assert exhibits.chains is not None
    count = min(PAIRS_ACROSS * PAIRS_DOWN, sheet.images_that_fit(exhibits.model.data_shape, sheet.BUDGET) // 2)
    start = sheet.tiles(exhibits.shown(exhibits.chains.start[:count]))
    end = sheet.tiles(exhibits.shown(exhibits.chains.end[:count]))
    across = min(PAIRS_ACROSS, count)
    rows = [sheet.interleaved(start[i : i + across], end[i : i + across]) for i in range(0, count, across)]
    scale = max(1, 2 * sheet.SHEET_PIXELS // (2 * across * start.shape[2]))
    paper = sheet.sheet(rows, scale, gap=max(2, scale // 2), wide_gaps=range(1, 2 * across, 2))
    caption = (
        f"{counted(count, 'chain')}: in each pair the start is on the left, the end on the right. See what the energy"
        " keeps and what it changes: what breaks off, what is grainy, what no data have."
    )
    return Plates(
        [Plate(sheet.png(paper), caption, "Start and end of single chains", subject("vaebm").colour)], 300, 1080
    )


def _numbers(decided: Verdict) -> dict[str, str]:
    if decided.name is None:
        return {}
    what = quantity(decided.name)
    return {key: f"{what.title} {what.said(m)}" for key, m in decided.measurements.items()}
