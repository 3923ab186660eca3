"""Seams: what a new part would otherwise have to be added to, in one place each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import vaebm
from vaebm.models import MODELS

PACKAGE = Path(vaebm.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
MAX_NAMING_VAEBM = 12


def lines(pattern: str, allowed: tuple[str, ...]) -> list[str]:
    """Where a pattern occurs in code outside the allowed files and folders."""
    return [
        f"{file}:{number}: {line.strip()}"
        for file, text in FILES.items()
        if not file.startswith(allowed)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_few_files_name_a_model_family() -> None:
    naming = [file for file, text in FILES.items() if re.search(r"\bVAEBM\b", text)]
    assert len(naming) <= MAX_NAMING_VAEBM, naming


def test_code_uses_a_model_family_by_name_only_where_it_is_made() -> None:
    """In an expression or an import; prose may name the method."""
    using = {
        file
        for file, text in FILES.items()
        for node in ast.walk(ast.parse(text))
        if (isinstance(node, ast.Name) and node.id == "VAEBM")
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "VAEBM" for alias in node.names))
    }
    assert using <= {
        "__init__.py",
        "models/__init__.py",
        "models/cebm.py",
        "models/settings.py",
        "models/vaebm.py",
    }


def test_no_line_reaches_for_one_term_of_the_energy() -> None:
    terms = r"energy_net\.(image|latent|joint)\b|\bterms(\.get\(|\[)|getattr\(\w*\.?energy_net"
    assert lines(terms, ("energy/", "models/vaebm.py")) == []


def test_what_kind_of_data_is_asked_in_one_place() -> None:
    """Outside `data` differences are methods of the modality, or dictionaries keyed by its name."""
    asking = lines(r"\b(is|is not|==|!=) (IMAGES|POINTS)\b|\bisinstance\([^)]*\b(Images|Points)\b", ("data/",))
    assert asking == []
    counting = lines(r"len\((\w+\.)*(data_)?shape\) (==|!=) [13]\b", ("data/",))
    assert counting == []


@pytest.mark.parametrize("kind", MODELS)
def test_every_setting_of_a_model_family_has_a_sentence(kind: str) -> None:
    missing = [name for name, field in MODELS[kind].model_fields.items() if not field.description]
    assert missing == []
