"""An evaluator beside a training, on a real local Spark."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_strategy import Evaluator, Independent, Launcher, MultiWorker, get_context
from spark_strategy.errors import CapacityError, PlanError, WorkerError

pytestmark = pytest.mark.usefixtures("spark", "leaves_nothing")


def train(folder: str) -> str:
    """Three Keras models, then a checkpoint of tf.train.Checkpoint."""
    import keras
    import numpy as np
    import tensorflow as tf

    assert "evaluator" not in json.loads(os.environ["TF_CONFIG"])["cluster"]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    for epoch in (1, 2, 3):
        model.set_weights([np.full((1, 1), epoch, "float32")])
        model.save(f"{folder}/epoch-{epoch:02d}.keras")
        time.sleep(0.1)  # their order is that of their times
    tf.train.Checkpoint(slope=tf.Variable(7.0)).write(f"{folder}/ckpt-12")
    return str(get_context().task)


def evaluate(path: str) -> dict[str, float]:
    """The slope, the rank, and how many workers there are; the second one cannot be evaluated."""
    import keras
    import tensorflow as tf

    context = get_context()
    config = json.loads(os.environ["TF_CONFIG"])
    assert config["task"] == {"type": "evaluator", "index": 0}
    assert list(config["cluster"]) == ["worker"]
    assert str(context.task) == "evaluator:0"
    assert not tf.distribute.has_strategy()
    if "02" in path:
        raise ValueError("two is not liked")
    if path.endswith("ckpt-12"):
        slope = float(tf.train.load_variable(path, "slope/.ATTRIBUTES/VARIABLE_VALUE"))
    else:
        slope = float(keras.models.load_model(path).get_weights()[0][0, 0])
    return {"slope": slope, "rank": context.rank, "of": context.num_workers}


def test_every_checkpoint_is_evaluated_and_the_run_ends_after_the_last(tmp_path: Path) -> None:
    """In order, also those that appear last; a failed one is recorded; TensorBoard has them."""
    import tensorflow as tf

    folder, events = tmp_path / "checkpoints", tmp_path / "events"
    folder.mkdir()
    evaluator = Evaluator(evaluate, str(folder), tensorboard=str(events))
    result = Launcher(MultiWorker(1), evaluator=evaluator, timeout_s=120, logs=None).run(
        train, str(folder)
    )

    assert result.values == ("worker:0",)
    assert result.evaluator_problem == ""
    assert [Path(one.checkpoint).name for one in result.evaluations] == [
        "epoch-01.keras",
        "epoch-02.keras",
        "epoch-03.keras",
        "ckpt-12",
    ]
    assert [one.step for one in result.evaluations] == [1, 2, 3, 12]
    assert [one.metrics.get("slope") for one in result.evaluations] == [1.0, None, 3.0, 7.0]
    assert result.evaluations[0].metrics == {"slope": 1.0, "rank": 1.0, "of": 1.0}
    assert result.evaluations[1].error == "ValueError: two is not liked"
    written = {}
    for file in events.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.tag == "evaluation/slope":
                    written[event.step] = float(tf.make_ndarray(value.tensor))
    assert written == {1: 1.0, 3: 3.0, 12: 7.0}


def train_on_rows(folder: str) -> list[int]:
    """The same, and the rows that it is fed with."""
    train(folder)
    rows = get_context().dataset(batch_size=8, features="id")
    return sorted(x for batch in rows for x in batch.numpy().tolist())


def test_an_evaluator_that_dies_does_not_end_the_training(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its end is told, with what it had evaluated before; training has its value, and all rows."""

    def evaluate_or_die(path: str) -> dict[str, float]:
        if "02" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"size": Path(path).stat().st_size}

    evaluator = Evaluator(evaluate_or_die, str(tmp_path))
    launcher = Launcher(MultiWorker(1), evaluator=evaluator, timeout_s=120, logs=None)
    result = launcher.on(spark.range(30)).run(train_on_rows, str(tmp_path))

    assert result.value == list(range(30))
    assert result.evaluator_problem == "was killed by SIGKILL"
    assert [one.step for one in result.evaluations] == [1]
    assert "The evaluator was killed by SIGKILL; training went on without it" in caplog.text


def test_an_evaluation_that_hangs_does_not_hold_up_the_end_of_the_training(tmp_path: Path) -> None:
    """It has its time, and no limit on the run is needed."""

    def hang(path: str) -> dict[str, float]:
        while "01" not in path:
            time.sleep(1.0)
        return {"size": 1.0}

    evaluator = Evaluator(hang, str(tmp_path), timeout_s=2.0)
    result = Launcher(MultiWorker(1), evaluator=evaluator, logs=None).run(train, str(tmp_path))

    assert result.value == "worker:0"
    assert "did not end an evaluation within the 2 s" in result.evaluator_problem
    assert [one.step for one in result.evaluations] == [1]


def test_a_failed_training_stops_its_evaluator(tmp_path: Path) -> None:
    """The cause is raised at once, and names the worker."""

    def fail() -> None:
        raise RuntimeError("planned")

    def never(path: str) -> Any:
        return {}

    launcher = Launcher(MultiWorker(1), evaluator=Evaluator(never, str(tmp_path)), logs=None)
    with pytest.raises(WorkerError, match=r"worker:0 .*RuntimeError: planned"):
        launcher.run(fail)


def test_what_makes_no_sense_is_refused(spark: SparkSession) -> None:
    """No function, no folder, no training beside it, or no slot for it."""
    with pytest.raises(PlanError, match="takes a function of a path"):
        Evaluator("model", "/tmp")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="checkpoints is a folder's path, found ''"):
        Evaluator(evaluate, "")
    for seconds in (0, True, float("inf"), float("nan"), "1"):
        with pytest.raises(PlanError, match="Evaluator's timeout_s is a number of seconds above 0"):
            Evaluator(evaluate, "/tmp", timeout_s=seconds)  # type: ignore[arg-type]
    evaluator = Evaluator(evaluate, "/tmp")
    with pytest.raises(PlanError, match=r"Independent\(2\) has none"):
        Launcher(Independent(2), evaluator=evaluator)
    with pytest.raises(CapacityError, match=r"MultiWorker\(2\) with an evaluator needs 3 tasks"):
        Launcher(MultiWorker(2), evaluator=evaluator).plan()


def test_an_overwritten_checkpoint_comes_again_and_an_unfinished_one_waits(tmp_path: Path) -> None:
    """Complete is what has stood still; the end of training completes everything."""
    from spark_strategy.worker.checkpoints import arrivals

    steps = iter(range(100))

    def ended() -> bool:
        step = next(steps)
        if step in (0, 4):
            (tmp_path / "best.keras").write_bytes(b"x" * (step + 1))
            os.utime(tmp_path / "best.keras", ns=(step, step))
        if step == 6:
            (tmp_path / "last.weights.h5").write_bytes(b"y")
        return step >= 6

    names = [Path(path).name for path in arrivals(str(tmp_path), ended=ended)]
    assert names == ["best.keras", "best.keras", "last.weights.h5"]
