"""Training that is asked to stop saves, says so in one line, leaves with the status for it, and goes on when asked."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """\
data: {kind: gaussians, side: 2, train_size: 400, test_size: 200}
vae: {kind: mlp, latent_dim: 2, hidden: [8], likelihood: {kind: gaussian}}
code_mixture: {components: 2, codes: 200}
sampler: {kind: langevin, step_size: 0.01, steps: 2}
vae_stage: {iterations: 1500, batch_size: 16}
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_stopped_training_is_saved_and_goes_on(number: signal.Signals, status: int, tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "vaebm", "train", "short.yaml", "--out", "run", "--only-train", "--quiet"]
    training = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "metrics.jsonl"
    while training.poll() is None and (not log.exists() or '"iteration": 50' not in log.read_text()):
        time.sleep(0.01)
    training.send_signal(number)
    out, err = training.communicate()
    assert training.returncode == status, err
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("vaebm: stopped in vae at iteration ")
    assert not (tmp_path / "run" / "model").exists()

    resumed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (resumed.returncode, resumed.stdout, resumed.stderr) == (0, "run\n", "")
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_reader_who_leaves_does_not_end_training(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(RECIPE.replace("1500", "15"))
    pipe = f"{sys.executable} -m vaebm train short.yaml --out run --only-train 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0", done
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
