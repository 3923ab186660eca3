"""The verbs that picture latents: what they leave, and what they say to wrong input."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaebm
from tests.cli.conftest import Command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    small = {
        "vae.hidden": [8],
        "vae.latent_dim": 3,
        "vae_stage.iterations": 5,
        "code_mixture.components": 2,
        "energy.image.stem": 4,
        "energy.image.widths": [4],
        "energy_stage.phases.ratio.iterations": 2,
        "sampler.steps": 2,
    }
    path = tmp_path_factory.mktemp("latents") / "run"
    return str(vaebm.train("digits", out=path, **small).path)


def test_each_leaves_its_sheet(run: str, tmp_path: Path, command: Command) -> None:
    done = command("reconstruct", run, "--out", str(tmp_path / "a.npz"), "--n", "5", "--input", "validation")
    assert (done.status, done.out.strip()) == (0, str(tmp_path / "a.npz"))
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["images"].shape == (3, 5, 8, 8, 1)
    assert command("interpolate", run, "--out", str(tmp_path / "b.png"), "--n", "3", "--columns", "4").status == 0
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.size == (4 * 9 - 1, 4 * 9 - 1)
    assert command("interpolate", run, "--walk", "--out", str(tmp_path / "c.gif"), "--columns", "3").status == 0
    with Image.open(tmp_path / "c.gif") as film:
        assert getattr(film, "n_frames", 1) == 3
    done = command("traverse", run, "--out", str(tmp_path / "d.npz"), "--latents", "2,0", "--columns", "5")
    assert done.status == 0
    assert [line.split(":")[0] for line in done.err.splitlines() if "nats" in line] == ["latent 2", "latent 0"]
    with np.load(tmp_path / "d.npz") as arrays:
        assert [row.split(",")[1].split()[1] for row in arrays["rows"]] == ["2", "2", "0", "0"]
    assert command("traverse", run, "--out", str(tmp_path / "e.npz"), "--top", "1", "seed=3").status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reconstruct", "--n", "5000"], "5000 were asked for"),
        (["reconstruct", "--input", "tests"], "test"),
        (["interpolate", "--n", "1"], "at least 2 inputs"),
        (["interpolate", "--columns", "2"], "3 columns"),
        (["traverse", "--latents", "0,x"], "whole numbers"),
        (["traverse", "--latents", "\u00b2"], "whole numbers"),
        (["traverse", "--latents", ","], "whole numbers"),
        (["traverse", "--latents", "7"], "0 to 2"),
        (["traverse", "--reach", "0"], "positive reach"),
        (["traverse", "--reach", "inf"], "positive reach"),
        (["traverse", "--row", "9999"], "10000 were asked for"),
    ],
)
def test_wrong_input_is_answered_in_a_line(
    run: str, tmp_path: Path, command: Command, words: list[str], said: str
) -> None:
    done = command(words[0], run, "--out", str(tmp_path / "a.png"), *words[1:], "--quiet")
    assert done.status == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "a.png").exists()
