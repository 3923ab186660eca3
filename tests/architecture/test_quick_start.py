"""`vaebm --help`, `vaebm --version` and `import vaebm` answer at once: nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "numpy", "scipy", "sklearn", "accelerate", "omegaconf", "PIL", "jinja2")
SECONDS = 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["sample", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"import sys; from vaebm.cli import main; main({arguments}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(done.stderr.split()) == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, vaebm; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(HEAVY) & set(done.stdout.split()) == set()


def test_listing_recipes_does_not_import_torch() -> None:
    program = (
        "import sys; from vaebm.cli import main; assert main(['recipes']) == 0; print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "torch" not in done.stderr.split()


def test_help_is_quick() -> None:
    def seconds() -> float:
        """Of processor time, which other work on the machine does not lengthen as it does the clock's."""
        before = os.times()
        subprocess.run([sys.executable, "-m", "vaebm", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(5)) < SECONDS
