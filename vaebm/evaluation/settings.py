"""What a recipe says of how a run is measured."""

from typing import Any, Literal

from pydantic import Field, field_validator

from vaebm.registry import Settings

View = Literal["sample", "mean", "denoised", "scaled"]
"""A show, or `scaled`: samples with as much pixel noise as serves the subject best (evaluation/noise_scale.py)."""

FeaturesName = Literal["classifier", "pixels", "inception-64", "inception-192", "inception-768", "inception-2048"]
INCEPTION_LAYERS: dict[str, Literal[64, 192, 768, 2048]] = {
    "inception-64": 64,
    "inception-192": 192,
    "inception-768": 768,
    "inception-2048": 2048,
}


class FeatureSettings(Settings):
    """What a recipe says of one kind of features."""

    n: int | None = Field(None, ge=2, description="samples; null: evaluation.n, for inception 5,000 at most")
    reference_n: int | None = Field(None, ge=2, description="training images; null: all, for inception 10,000 at most")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of an inception network; compare within one precision"
    )


class EvaluationSettings(Settings):
    """How a run is measured."""

    n: int | None = Field(None, ge=2, description="samples in a draw; null: as many as are held out, 10,000 at most")
    draws: int = Field(1, ge=1, description="independent draws, whose mean and spread are reported")
    seed: int = Field(0, ge=0, description="of the samples that are drawn")
    check_length: bool = Field(
        False,
        description="whether what four times as many steps of the sampler give is measured, too (vaebm_long): where it"
        " differs, the recipe's are too few",
    )
    annealing: bool = Field(
        True,
        description="whether the gain of the energy may be measured by annealing, minutes of chains, where weights of"
        " samples do not suffice; else it is left out there",
    )
    statistics_n: int | None = Field(
        None,
        ge=2,
        description="images in a draw whose pixels and classes are counted; null: n, or as many as are held out",
    )
    shows: list[View] | None = Field(
        None,
        min_length=1,
        description="what is shown of the same samples, each measured: scaled is a sample with as much pixel noise as"
        " serves the subject best; null: the recipe's show, and with it scaled where it is sample",
    )
    features: dict[FeaturesName, FeatureSettings] | None = Field(
        None,
        min_length=1,
        description="what distances look at, a name with null left out; null for all: the classifier where there are"
        " labels, else pixels",
    )

    @field_validator("shows", mode="before")
    @classmethod
    def _show_alone(cls, value: Any) -> Any:
        """One way to show, or a list of them, each once."""
        return list(dict.fromkeys([value] if isinstance(value, str) else value)) if value else value

    @field_validator("features", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """One name, or a list of them, with nothing else said; of a mapping, what is not null."""
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list):
            return {name: {} for name in names}
        return {name: what for name, what in names.items() if what is not None} if isinstance(names, dict) else names
