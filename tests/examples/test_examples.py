"""The examples do what they say, each started as a reader would start it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_S = 420

pytestmark = pytest.mark.timeout(DEADLINE_S + 30)


def last_line(script: str, *arguments: str) -> str:
    """The last line that an example prints; its whole output is shown when it fails."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.splitlines()[-1]


def numbers(text: str) -> list[float]:
    """The decimal fractions in a line."""
    return [float(number) for number in re.findall(r"\d+\.\d+", text)]


@pytest.mark.slow
def test_mnist_distribute_learns() -> None:
    """Three epochs over real images reach a training accuracy that only learning can give."""
    line = last_line("mnist_distribute.py", "--epochs", "3")
    assert line.startswith("accuracy ")
    assert line.endswith(" after 3 epochs")
    assert numbers(line)[0] > 0.85


@pytest.mark.slow
def test_custom_training_loop_learns_the_same_in_every_rank() -> None:
    """The ranks agree on the loss, and it is far below that of a model that knows nothing."""
    line = last_line("custom_training_loop.py", "--steps", "200")
    assert line.startswith("loss by rank after 200 steps: ")
    first, second = numbers(line)
    assert first == second
    assert first < 0.3 * np.log(10)


@pytest.mark.slow
def test_barrier_stage_finds_the_least_squares_solution() -> None:
    """Tasks with half of the rows each come to the error of a direct solution over all rows."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    _, residual, _, _ = np.linalg.lstsq(np.column_stack([x, np.ones(len(y))]), y, rcond=None)

    line = last_line("barrier_stage.py")
    assert line.startswith("mean squared error by rank: ")
    first, second = numbers(line)
    assert first == second
    assert first == pytest.approx(residual[0] / len(y), rel=0.02)


@pytest.mark.slow
def test_mnist_fit_learns() -> None:
    """Five epochs over a DataFrame of real images recognise most of those kept apart."""
    line = last_line("mnist_fit.py")
    assert line.startswith("test accuracy ")
    assert numbers(line)[0] > 0.85


@pytest.mark.slow
def test_flights_fit_beats_its_baseline() -> None:
    """On a part of the flights; always predicting the median is the baseline."""
    error, baseline = numbers(last_line("flights_fit.py", "--rows", "20000", "--epochs", "5"))
    assert error < 0.97 * baseline


@pytest.mark.slow
def test_streaming_fit_goes_on_after_a_restart() -> None:
    """1,500 rows in three batches of 500, five epochs of 16 steps each, none lost or repeated."""
    line = last_line("streaming_fit.py")
    assert line.startswith("after 240 steps over 3 batches and a restart: ")
    assert numbers(line)[0] > 0.9


@pytest.mark.slow
def test_hyperparameter_trials_find_the_better_rate() -> None:
    """A rate that is far too small loses against one that learns."""
    line = last_line("hyperparameter_trials.py")
    assert line.startswith("best of 2: accuracy ")
    assert line.endswith(" with rate 0.01")
    assert numbers(line)[0] > 0.9


@pytest.mark.slow
def test_model_parallel_learns_with_half_of_the_weights_each() -> None:
    """Sharded layers learn, and no worker holds them whole."""
    line = last_line("model_parallel.py")
    assert line.startswith("test accuracy ")
    assert line.endswith("share of the weights by rank: 0.50, 0.50")
    assert numbers(line)[0] > 0.9


@pytest.mark.slow
def test_evaluator_sees_every_checkpoint() -> None:
    """Four epochs, four checkpoints, and the best one recognises most digits kept apart."""
    line = last_line("evaluator.py")
    assert line.startswith("best of 4 checkpoints: accuracy ")
    assert numbers(line)[0] > 0.8


@pytest.mark.slow
def test_tfrecord_hdfs_beats_its_baseline() -> None:
    """On local files and a part of the flights; the median of all is the baseline."""
    error, baseline = numbers(last_line("tfrecord_hdfs.py", "--rows", "20000", "--epochs", "4"))
    assert error < 0.98 * baseline


@pytest.mark.slow
def test_parameter_server_flights_beats_its_baseline() -> None:
    """On a part of the flights; always saying the share of late ones is the baseline."""
    line = last_line("parameter_server_flights.py", "--rows", "40000", "--epochs", "4")
    loss, baseline = numbers(line)
    assert loss < 0.995 * baseline


@pytest.mark.slow
def test_flights_pipeline_finds_late_flights() -> None:
    """The better of two, on a part of the flights, saved and loaded; a guess has 0.5."""
    (area,) = numbers(last_line("flights_pipeline.py", "--rows", "15000", "--units", "1", "32"))
    assert area > 0.6


@pytest.mark.slow
def test_mnist_inference_agrees_in_batch_sql_and_stream() -> None:
    """The same images get the same digits, most of them right."""
    batch, sql, stream = numbers(last_line("mnist_inference.py"))
    assert batch == sql == stream
    assert batch > 0.85


def test_every_example_is_tested() -> None:
    """No example goes stale unseen."""
    tested = set(re.findall(r"last_line\(\"(\w+\.py)\"", Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
