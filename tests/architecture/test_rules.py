"""House rules that no linter knows: one door each, no global randomness, nothing unpickled, files that are one noun."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vaebm

PACKAGE = Path(vaebm.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# The one file that may import each of these, None where no file may.
DOORS = {
    "accelerate": "training/engine.py",
    "matplotlib": "report/figures/canvas.py",
    "urllib": "data/files/download.py",
    "http": "data/files/download.py",
    "socket": "data/files/download.py",
    "ftplib": "data/files/download.py",
    "aiohttp": "data/files/download.py",
    "requests": "data/files/download.py",
    "httpx": "data/files/download.py",
    "pickle": None,
    "pickletools": None,
    "random": None,
    "dill": None,
    "joblib": None,
    "torchvision": None,
}
PARSING_ALONE = {"urllib.parse"}
FORBIDDEN_CALLS = {
    "torch.manual_seed": "give a torch.Generator",
    "torch.random.manual_seed": "give a torch.Generator",
    "torch.cuda.manual_seed_all": "give a torch.Generator",
    "torch.load": "weights are safetensors; of others, plain tensors only: weights_only=True",
    "torch.save": "weights are safetensors",
    "torch.set_default_dtype": "say the dtype where it matters",
    "torch.set_default_device": "say the device where it matters",
    "numpy.random.seed": "give a numpy Generator",
    "np.random.seed": "give a numpy Generator",
    "numpy.load": "needs allow_pickle=False",
    "np.load": "needs allow_pickle=False",
}
REFUSES_PICKLES = {("allow_pickle", "False"), ("weights_only", "True")}
HOMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base_utils", "tools"}
LONGEST_FILE = 400


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text())


def imports(file: str) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("file", FILES)
def test_each_library_has_one_door(file: str) -> None:
    wrong = [
        name
        for name in imports(file)
        if name.split(".")[0] in DOORS
        and DOORS[name.split(".")[0]] != file
        and not any(name.startswith(parsing) for parsing in PARSING_ALONE)
    ]
    assert not wrong, f"{file} imports {wrong}: only {[DOORS[name.split('.')[0]] for name in wrong]} may"


def test_the_inception_network_has_one_door() -> None:
    users = [file for file in FILES for name in imports(file) if name.startswith("vaebm.metrics.inception")]
    assert set(users) <= {"metrics/features.py"}


@pytest.mark.parametrize("file", FILES)
def test_no_global_randomness_and_nothing_unpickled(file: str) -> None:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call) and (name := dotted(node.func)) in FORBIDDEN_CALLS:
            refuses_pickles = any(
                (keyword.arg, ast.unparse(keyword.value)) in REFUSES_PICKLES for keyword in node.keywords
            )
            assert refuses_pickles, f"{file}:{node.lineno} calls {name}: {FORBIDDEN_CALLS[name]}"


@pytest.mark.parametrize("file", FILES)
def test_random_draws_name_their_generator(file: str) -> None:
    draws = {"torch.randn", "torch.rand", "torch.randint", "torch.randperm", "torch.normal", "torch.multinomial"}
    draws |= {"torch.bernoulli", "torch.poisson"}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call) and dotted(node.func) in draws:
            assert any(keyword.arg == "generator" for keyword in node.keywords), (
                f"{file}:{node.lineno} draws from the global generator: give generator=..."
            )


@pytest.mark.parametrize("file", FILES)
def test_each_file_is_one_noun_with_a_definition(file: str) -> None:
    stem = Path(file).parent.name if Path(file).stem == "__init__" else Path(file).stem
    assert stem not in HOMELESS, f"{file}: code without a home is a noun without a name"
    assert ast.get_docstring(tree(file)), f"{file} has no module docstring: say what it is"
    lines = len((PACKAGE / file).read_text().splitlines())
    assert lines <= LONGEST_FILE, f"{file} has {lines} lines: it asks to be two nouns"
