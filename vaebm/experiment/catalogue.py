"""Recipes as files: which there are, how one extends another, and how `key=value` changes one.

A recipe is a YAML mapping with a one-line `summary`. `extends: name` starts from another one. Mappings are merged key
by key, except where `kind` changes: then what belonged to the other kind is dropped and the new kind's defaults hold.
The same rule serves overrides, so `sampler.kind=mala` is enough to change the sampler.

A recipe may be a stranger's. So its size and depth are bounded, aliases are refused, since a few lines of them can
stand for more than a memory holds, and no `${...}` is looked up.

Nothing heavy is imported here: a list of recipes is there at once.
"""

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from vaebm.errors import InputError
from vaebm.files import user_path
from vaebm.wording import did_you_mean

MAX_BYTES, MAX_DEPTH = 2**18, 50  # of a recipe file
FOLDER = Path(__file__).parent.parent / "recipes"
Tree = dict[str, Any]


class RecipeSummary(NamedTuple):
    """A recipe's name and its line."""

    name: str
    summary: str


def names() -> list[str]:
    """Names of the recipes that come with the package, sorted; those of a group begin with it, as in paper/cifar10."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def list_recipes() -> list[RecipeSummary]:
    """The recipes that come with the package."""
    return [RecipeSummary(name, str(_read(FOLDER / f"{name}.yaml").get("summary", ""))) for name in names()]


def read_recipe(name_or_path: str | Path, overrides: Sequence[str] = (), own: Tree | None = None) -> tuple[str, Tree]:
    """A recipe's name and its merged tree, values of our `own` and then overrides applied; not validated yet.

    Raises:
        InputError: no such recipe or file, no YAML mapping, or an override without a value.
    """
    path = _locate(str(name_or_path))
    known = path.is_relative_to(FOLDER)
    name = path.relative_to(FOLDER).with_suffix("").as_posix() if known else path.stem
    return name, merge(merge(_extended(path, []), own or {}), overrides_tree(overrides))


def overrides_tree(overrides: Sequence[str]) -> Tree:
    """The tree that all overrides stand for together, so that `kind` may come after what belongs to the new kind."""
    return reduce(merge, map(override_tree, overrides), {})


def override_tree(override: str) -> Tree:
    """The tree that an override `a.b=value` stands for: {a: {b: value}}.

    The value is a number, true, false or null as people write them; YAML where it begins with a bracket, a brace or a
    quote; else the text as it stands.

    Raises:
        InputError: there is no value, or it cannot be read.
    """
    key, text = key_and_text(override)
    try:
        value = _value(text)
    except ValueError:
        raise InputError(f"the value of override {override!r} cannot be read: write it as in YAML") from None
    return tree_of(key, value)


def key_and_text(override: str) -> tuple[str, str]:
    """What stands before and after the first equals sign. InputError: one of them is missing."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} has no value: write key=value, such as seed=1")
    return key, text


def tree_of(key: str, value: Any) -> Tree:
    """{a: {b: value}} for the key a.b."""
    tree: Tree = reduce(lambda inner, part: {part: inner}, reversed(key.split(".")), value)
    return tree


def _value(text: str) -> Any:
    if text.strip()[:1] in ("[", "{", "'", '"'):
        try:
            return json.loads(text)
        except ValueError:
            return _loaded(f"value: {text}")["value"]
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "null": None, "~": None, "": None}.get(text.strip().lower(), text)


def merge(base: Tree, over: Tree) -> Tree:
    """`over` laid on `base`: mappings key by key; all of `over` where it changes the `kind`."""
    if over.get("kind", base.get("kind")) != base.get("kind") and "kind" in base:
        return over
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _locate(name: str) -> Path:
    path = user_path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise InputError(f"there is no recipe file {name}: check the path, or see `vaebm recipes`")
        return path
    known = FOLDER / f"{name}.yaml"
    if user_path(name).is_file():
        raise InputError(
            f"{name} is a file, but neither a recipe (.yaml), an archive of images (.zip, .tar, or .npz with `images`)"
            " nor a table (.csv, .parquet, .npy, .npz): give one of these, or a folder"
        )
    if not known.is_file():
        raise InputError(f"there is no recipe, run, folder or table {name!r}: {did_you_mean(name, names())}")
    return known


def _extended(path: Path, seen: list[Path]) -> Tree:
    if path in seen:
        raise InputError(f"recipe {path} extends itself: remove one `extends`")
    tree = _read(path)
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    beside = path.parent / f"{parent}.yaml"
    base = _extended(beside if beside.is_file() else _locate(str(parent)), [*seen, path])
    return merge(base, tree)


def yaml_text(path: Path) -> str:
    """The text of a YAML file that is no larger than what it stands for.

    Raises:
        ValueError: it is no YAML, or not of a recipe's size; says why, or near which line.
    """
    import yaml

    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f", it is larger than {MAX_BYTES:,} bytes")
    try:
        text, depth = content.decode(), 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                what = "it uses an alias" if depth <= MAX_DEPTH else f"it is more than {MAX_DEPTH} levels deep"
                mark: Any = event.start_mark
                raise ValueError(f" near line {mark.line + 1}, {what}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(_near(error)) from None
    return text


def _near(error: Exception) -> str:
    where: Any = getattr(error, "problem_mark", None)
    return f" near line {where.line + 1}" if where else ""


def _read(path: Path) -> Tree:
    try:
        tree = _loaded(yaml_text(path))
    except ValueError as error:
        raise InputError(f"recipe {path} is no valid YAML{error}: correct it") from None
    if not isinstance(tree, dict):
        raise InputError(f"recipe {path} is no mapping of keys to values: see `vaebm recipes` for examples")
    return {str(key): value for key, value in tree.items()}


def _loaded(text: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        ValueError: it is no YAML; says near which line, where that is known.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (YAMLError, OmegaConfBaseException, AssertionError) as error:  # the last of text that is no mapping
        raise ValueError(_near(error)) from None
