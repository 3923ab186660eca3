"""Watched chains do exactly what unwatched ones do, and steps are chosen where there is something to see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vaebm.experiment.run_directory import Run
from vaebm.progress import silent
from vaebm.report.chains import film_steps, milestones, watch
from vaebm.report.exhibits import draw_exhibits

MakeRun = Callable[..., Run]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("kind", ["langevin", "mala", "hmc", "underdamped"])
@pytest.mark.parametrize("latent_step_scale", [1, 0])
def test_watching_changes_nothing(make_run: MakeRun, kind: str, latent_step_scale: int) -> None:
    overrides = [f"sampler={{kind: {kind}, steps: 5, warmup: 4}}", f"latent_step_scale={latent_step_scale}"]
    model = make_run("digits", overrides).model()
    start = model.start(6, generator())
    seen: list[int] = []
    watched = watch(model, start, generator(), range(10), lambda done, _: seen.append(done))
    chains = model.chains(start, generator())
    assert torch.equal(watched.end, chains.position)
    assert watched.acceptance == pytest.approx(float(chains.acceptance.mean()))
    assert watched.steps == list(range(10))
    assert torch.equal(watched.start, start)
    assert seen == list(range(1, 10))


def test_milestones() -> None:
    assert milestones(1) == [0, 1]
    assert milestones(12) == [0, 1, 2, 5, 10, 12]
    assert milestones(100) == [0, 1, 2, 5, 10, 20, 50, 100]
    assert milestones(1000)[-2:] == [500, 1000]


def test_a_film_begins_at_the_start_and_ends_at_the_end() -> None:
    steps = film_steps(60, 16)
    assert steps[0] == 0
    assert steps[-1] == 60
    assert steps == sorted(set(steps))
    assert film_steps(3, 16) == [0, 1, 2, 3]


def test_exhibits_share_their_pixel_noise_and_their_starts(make_run: MakeRun) -> None:
    run = make_run("digits")
    exhibits = draw_exhibits(run.model(), run.data(), silent())
    assert exhibits.begin == "mixture"
    assert exhibits.chains is not None
    assert torch.equal(exhibits.noise["vae_mixture"], exhibits.chains.start)
    assert torch.equal(exhibits.noise["vaebm"], exhibits.chains.end)
    codes = exhibits.model.noise.latent_dim
    assert torch.equal(exhibits.noise["vae"][:, codes:], exhibits.noise["vae_mixture"][:, codes:])
    assert not torch.equal(exhibits.noise["vae"][:, :codes], exhibits.noise["vae_mixture"][:, :codes])
    assert float(exhibits.energies["held_out"].mean()) == pytest.approx(0.0, abs=1e-5)
    again = draw_exhibits(run.model(), run.data(), silent())
    assert torch.equal(again.noise["vaebm"], exhibits.noise["vaebm"])


def test_a_ctrl_c_is_not_swallowed(make_run: MakeRun) -> None:
    model = make_run("digits").model()

    def press(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(model, model.start(2, generator()), generator(), [1], press)
