"""The main job, started as the README starts it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 240


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE_S + 30)
def test_demo_learns_shows_progress_and_saves_a_model(tmp_path: Path) -> None:
    """Two workers reach 0.93, live lines carry the rank, the saved file is a working model."""
    saved = tmp_path / "model.keras"
    command = Path(sys.executable).with_name("spark-strategy")
    done = subprocess.run(
        [command, "demo", "--workers", "2", "--save", saved],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = re.search(r"^test accuracy (0\.\d{3})$", done.stdout, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy.group(1)) >= 0.93
    assert re.search(r"^worker:0 \|.*accuracy", done.stdout, re.MULTILINE)
    assert f"model saved to {saved}" in done.stdout

    import keras

    from spark_strategy.console.demo import load_digits

    _, test = load_digits()
    answers = keras.models.load_model(saved).predict(test.images, verbose=0).argmax(axis=1)
    assert float((answers == test.labels).mean()) == pytest.approx(
        float(accuracy.group(1)), abs=0.0006
    )
