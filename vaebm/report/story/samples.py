"""Images: what the models make, side by side."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vaebm.data import DataSet
from vaebm.hybrid import Show
from vaebm.report.chapter import Chapter, Plate, Plates
from vaebm.report.exhibits import Exhibits
from vaebm.report.figures import sheet
from vaebm.report.figures.pictures import Panel, side_by_side
from vaebm.report.measures import measure
from vaebm.report.story.words import counted, sampler_in_words, shown_in_words
from vaebm.report.subjects import subject
from vaebm.report.verdict import Verdict

PAIRS_ACROSS, PAIRS_DOWN = 8, 4
MODELS = ("vae", "vae_mixture", "vaebm")


def samples_chapter(data: DataSet, exhibits: Exhibits, decided: Verdict) -> Chapter:
    """What the models make."""
    show = exhibits.model.settings.show
    sentences = [
        f"Samples of each model, not chosen, {shown_in_words(show)}. The VAE and the VAE with the code mixture share the"
        " pixel noise, place by place." + _same_start(exhibits)
    ]
    other: Show = "sample" if show == "mean" else "mean"
    blocks = [_models(data, exhibits, decided, show), _models(data, exhibits, None, other)]
    if "vaebm" in exhibits.noise:
        blocks.insert(1, _pairs(exhibits))
    return Chapter("samples", "What the models make of noise", sentences, blocks)


def comparison_picture(data: DataSet, exhibits: Exhibits, decided: Verdict) -> bytes:
    """Data and models side by side, with their numbers, as one PNG."""
    side = sheet.grid_side(data.shape)
    shown: dict[str, Tensor] = {"held_out": exhibits.held_out}
    shown |= {key: exhibits.shown(eps[: side * side]) for key, eps in exhibits.noise.items()}
    numbers = _numbers(decided)
    return side_by_side(
        [
            Panel(subject(key).label, numbers.get(key, ""), sheet.square_sheet(x, side), subject(key).colour)
            for key, x in shown.items()
        ]
    )


def _models(data: DataSet, exhibits: Exhibits, decided: Verdict | None, show: Show) -> Plates:
    side = sheet.grid_side(data.shape)
    numbers = _numbers(decided) if decided else {}
    captions = _captions(exhibits)
    plates = []
    if decided:
        plates.append(_plate("held_out", exhibits.held_out, side, "What samples should look like.", numbers))
    for key in MODELS:
        if key in exhibits.noise:
            x = exhibits.shown(exhibits.noise[key][: side * side], show)  # type: ignore[index]
            plates.append(_plate(key, x, side, captions[key] if decided else "", numbers))
    shared = (
        "Compare from left to right: broken and blended shapes should become rarer, and edges as sharp as those of data."
        if decided
        else f"The same samples {shown_in_words(show)}. " + _other_show(show)
    )
    return Plates(plates, 220, 360 if decided else 260, shared)


def _other_show(show: Show) -> str:
    if show == "mean":
        return (
            "What changes from one column to the next here is the work of the codes alone; what the energy does to the pixel"
            " noise cannot be seen in means."
        )
    return "The pixel noise is what the means above leave out."


def _plate(key: str, x: Tensor, side: int, caption: str, numbers: Mapping[str, str]) -> Plate:
    who = subject(key)
    number = f"{numbers[key]}. " if key in numbers else ""
    return Plate(sheet.png(sheet.square_sheet(x, side)), number + caption, who.label, who.colour)


def _captions(exhibits: Exhibits) -> dict[str, str]:
    components = exhibits.model.mixture.means.shape[0]
    ends = {
        "vae_mixture": "Each is where the chain ends that began at the image in the same place beside it.",
        "vae": "Each is where the chain ends that began at the VAE's image in the same place.",
    }
    return {
        "vae": "Codes from the prior, which also reaches where no data have theirs.",
        "vae_mixture": f"The same decoder, codes from {counted(components, 'Gaussian')} fitted to those of the data: the"
        " baseline to beat, for seconds of work.",
        "vaebm": f"After {sampler_in_words(exhibits.model.settings.sampler)}. "
        + ends.get(exhibits.starts_from or "", ""),
    }


def _same_start(exhibits: Exhibits) -> str:
    if exhibits.chains is None:
        return f" There are none of the VAEBM, since its chains could not run: {exhibits.refusal}"
    start = {
        "vae": " The chains of the VAEBM start from the VAE's.",
        "vae_mixture": " The chains start from the mixture's.",
    }
    return start.get(exhibits.starts_from or "", "")


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
        f"{counted(count, 'chain')}: in each pair the start is on the left, the end on the right. See what the energy keeps"
        " and what it changes: what breaks off, what is grainy, what no data have."
    )
    return Plates(
        [Plate(sheet.png(paper), caption, "Start and end of single chains", subject("vaebm").colour)], 300, 1080
    )


def _numbers(decided: Verdict) -> dict[str, str]:
    if decided.name is None:
        return {}
    what = measure(decided.name)
    return {key: f"{what.title} {what.said(m)}" for key, m in decided.measurements.items()}
