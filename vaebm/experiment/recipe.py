"""A recipe, validated: everything that decides a run.

It joins the settings that stand beside each part (the VAE's in vae/, the sampler's in sampling/, ...); the resolved
recipe in a run is complete, so a later version's defaults do not change what it means.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from vaebm.data import Data
from vaebm.errors import InputError, check_choice
from vaebm.evaluation.settings import EvaluationSettings
from vaebm.experiment.catalogue import Tree, merge, read_recipe, tree_of
from vaebm.models import MODELS, ModelSettings
from vaebm.nn.bfloat16 import has_bfloat16
from vaebm.registry import Settings
from vaebm.training.loop import CheckpointSettings
from vaebm.training.monitor import DivergenceMonitorSettings
from vaebm.training.stages import TRAININGS, TrainingSettings

SettingsT = TypeVar("SettingsT", bound=BaseModel)


class LoggingSettings(Settings):
    """What is written while training."""

    every: int = Field(50, ge=1, description="iterations between two lines of metrics.jsonl")
    tracker: Literal["tensorboard", "wandb", "mlflow", "comet_ml", "aim"] | None = Field(
        None, description="an experiment tracker that gets the same numbers; null: none"
    )


class Recipe(Settings):
    """One experiment, whole: this, and what the model's family has to say of the model and of its training."""

    name: str = Field("", description="the recipe's name; runs are called by it")
    summary: str = Field("", description="what it is, in a line of `vaebm recipes`")
    published: str = Field("", description="what the paper reports, in a sentence, for comparison")
    seed: int = Field(0, ge=0, lt=2**31, description="of all that is random")
    minutes: float | None = Field(None, gt=0, description="the time that it was fitted to; null: as it was written")
    threads: int | None = Field(None, ge=1, description="of the CPU; null: as PyTorch and OMP_NUM_THREADS say")
    kind: str = Field("vaebm", description="the model family")
    data: Data = Field(description="the data set")
    divergence_monitor: DivergenceMonitorSettings = Field(
        DivergenceMonitorSettings(), description="the limits of a healthy run"
    )
    checkpoint: CheckpointSettings = Field(CheckpointSettings(), description="when a run is saved")
    logging: LoggingSettings = Field(LoggingSettings(), description="what is written while training")
    evaluation: EvaluationSettings = Field(EvaluationSettings(), description="how a run is measured")

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What the family's settings add (`recipe_of`)."""

    def model_settings(self) -> ModelSettings:
        """The part that is saved with the weights."""
        return self._part(_family(self.kind)[0])

    def training_settings(self) -> TrainingSettings:
        """The part that says how the model is trained."""
        return self._part(_family(self.kind)[1])

    def _part(self, settings: type[SettingsT]) -> SettingsT:
        return settings.model_validate({name: getattr(self, name) for name in settings.model_fields})

    def for_device(self, device: torch.device) -> "Recipe":
        """The recipe with `precision: auto` settled: bfloat16 where `device` multiplies it natively, else float32."""
        if getattr(self, "precision", None) != "auto":
            return self
        return self.model_copy(update={"precision": "bfloat16" if has_bfloat16(device) else "float32"})

    def to_yaml(self) -> str:
        """All of it, as `recipe.yaml` holds it."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
        return text


def _family(kind: str) -> tuple[type[ModelSettings], type[TrainingSettings]]:
    """How a family's models are described, and how they are trained."""
    model: Any = MODELS[kind]
    return model, TRAININGS.get(kind, model)


@cache
def recipe_of(kind: str) -> type[Recipe]:
    """The recipes of a model family.

    Raises:
        InputError: there is no such family.
    """
    check_choice("kind", kind, MODELS)
    made: type[Recipe] = cast(Any, create_model)(
        f"{kind}Recipe", __base__=cast(Any, (*dict.fromkeys(_family(kind)), Recipe))
    )
    return made


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = (), own: Tree | None = None) -> Recipe:
    """A recipe by name or file, with values of our `own` and then `key=value` overrides.

    Raises:
        InputError: no such recipe, an unknown key (the nearest is offered), or a value of a wrong type or out of range.
    """
    name, tree = read_recipe(name_or_path, overrides, own)
    return validate({**tree, "name": tree.get("name") or name}, str(name_or_path), overrides)


def validate(tree: Tree, source: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that a tree of plain values describes; `source` is how messages call it.

    Where a setting is text, an override that reads as something else is taken as it was written.
    """
    try:
        return recipe_of(str(tree.get("kind", "vaebm"))).model_validate(tree)
    except ValidationError as error:
        texts = {key.partition("=")[0]: key.partition("=")[2] for key in overrides}
        problems = [(problem["type"], ".".join(_keys_in_tree(problem["loc"], tree)[0])) for problem in error.errors()]
        if as_text := {key: texts[key] for kind, key in problems if kind == "string_type" and key in texts}:
            return validate(reduce(merge, (tree_of(key, text) for key, text in as_text.items()), tree), source)
        raise InputError(f"recipe {source}: {_first_problem(error, tree)}") from None


def _first_problem(error: ValidationError, tree: Tree) -> str:
    problem = error.errors(include_url=False)[0]
    keys, parent = _keys_in_tree(problem["loc"], tree)
    path = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        schema = recipe_of(str(tree.get("kind", "vaebm"))).model_json_schema()
        if places := _places(keys[0], tree) if len(keys) == 1 else []:
            return f"there is no key {path}: did you mean {' or '.join(places)}?"
        near = get_close_matches(keys[-1], sorted(_fields(schema, keys[:-1], parent)), n=1)
        hint = f"did you mean {'.'.join([*keys[:-1], near[0]])}?" if near else "remove it"
        return f"there is no key {path}: {hint}"
    if problem["type"] == "missing":
        return f"{path} is missing: set it"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        context = problem.get("ctx", {})
        given = context.get("tag", "None")
        expected = context.get("expected_tags", "")
        said = f"{path}.kind is missing" if given == "None" else f"{path}.kind is {given!r}"
        return f"{said}: it is one of {expected}" if expected else f"{said}: set it"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{path} is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _places(key: str, tree: Tree) -> list[str]:
    """The paths by which the rest of a recipe has a key of this name: those that are as short as any."""
    try:
        complete = recipe_of(str(tree.get("kind", "vaebm"))).model_validate({k: v for k, v in tree.items() if k != key})
    except ValidationError:
        return []
    found: list[str] = []
    level = [("", complete.model_dump())]
    while level and not found:
        found = [f"{path}{key}" for path, node in level if key in node]
        level = [(f"{path}{name}.", part) for path, node in level for name, part in node.items() if type(part) is dict]
    return found


def _keys_in_tree(location: tuple[int | str, ...], tree: Tree) -> tuple[list[str], Any]:
    """Keys as the user wrote them, without the kinds that pydantic's location also names; and the last key's parent."""
    keys: list[str] = []
    node: Any = tree
    parent: Any = tree
    for part in location:
        if isinstance(node, dict) and part not in node and part == node.get("kind"):
            continue
        keys.append(str(part))
        parent = node
        try:
            node = node[part]
        except (LookupError, TypeError):
            node = None
    return keys, parent


def _fields(schema: dict[str, Any], keys: list[str], parent: Any) -> Iterator[str]:
    """Names that the schema allows below `keys`, whichever kind is chosen there."""
    definitions = schema["$defs"]
    nodes = [schema]
    for key in keys:
        below = [node.get("properties", {}).get(key, node.get("additionalProperties")) for node in nodes]
        nodes = [resolved for node in below if isinstance(node, dict) for resolved in _resolve(node, definitions)]
    kind = parent.get("kind") if isinstance(parent, dict) else None
    for node in nodes:
        properties = node.get("properties", {})
        if kind is None or properties.get("kind", {}).get("const", kind) == kind:
            yield from properties


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        yield from _resolve(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    for choice in [*node.get("anyOf", []), *node.get("oneOf", [])]:
        yield from _resolve(choice, definitions)
    if "properties" in node or "additionalProperties" in node:
        yield node
