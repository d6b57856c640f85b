"""A train function runs on a real local Spark, in real TensorFlow processes."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from spark_strategy import (
    Independent,
    Launcher,
    MultiWorker,
    RunResult,
    distribute,
    get_context,
)
from spark_strategy.errors import PlanError

pytestmark = pytest.mark.usefixtures("spark", "leaves_nothing")


def fit_line(epochs: int, *, slope: float = 3.0) -> dict[str, Any]:
    """Fits a line: unmodified Keras code."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.3))
    history = model.fit(x, slope * x, batch_size=64, epochs=epochs, shuffle=False)
    return {"loss": history.history["loss"], "slope": float(model.get_weights()[0][0, 0])}


def test_calling_a_decorated_function_returns_the_chiefs_value() -> None:
    """Unmodified Keras code trains over two workers, and the value is rank 0's."""
    train = distribute(MultiWorker(2))(fit_line)

    value = train(25, slope=2.0)

    assert value["slope"] == pytest.approx(2.0, abs=0.05)
    assert len(value["loss"]) == 25
    assert value["loss"][-1] < value["loss"][0]


def test_run_reports_every_rank_and_where_the_time_went() -> None:
    """values are in rank order; each phase has its seconds; TF_CONFIG names both workers."""

    @distribute(MultiWorker(2), logs=None)
    def describe(tag: str) -> dict[str, Any]:
        import tensorflow as tf

        context = get_context()
        return {
            "tag": tag,
            "task": str(context.task),
            "rank": context.rank,
            "of": context.num_workers,
            "chief": context.is_chief,
            "attempt": context.attempt,
            "strategy": type(context.strategy).__name__,
            "in scope": tf.distribute.get_strategy() is context.strategy,
            "replicas": context.strategy.num_replicas_in_sync,
            "config": json.loads(os.environ["TF_CONFIG"]),
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "omp": os.environ["OMP_NUM_THREADS"],
        }

    result = describe.run("x")

    assert isinstance(result, RunResult)
    assert result.value == result.values[0]
    assert [value["rank"] for value in result.values] == [0, 1]
    assert [value["task"] for value in result.values] == ["worker:0", "worker:1"]
    assert [value["chief"] for value in result.values] == [True, False]
    assert all(value["in scope"] and value["of"] == 2 for value in result.values)
    assert all(value["replicas"] == 2 for value in result.values)
    assert result.value["strategy"] == "CollectiveAllReduceStrategy"
    addresses = result.value["config"]["cluster"]["worker"]
    assert len(set(addresses)) == 2
    assert [value["config"]["cluster"]["worker"] for value in result.values] == [addresses] * 2
    assert result.values[1]["config"]["task"] == {"type": "worker", "index": 1}
    assert result.value["omp"] == "1"
    assert result.attempts == 1
    assert result.timings.import_s > 0
    assert result.timings.strategy_s > 0
    assert result.timings.rendezvous_s > 0
    assert all(peak > 100 * 2**20 for peak in result.peak_rss_bytes)
    assert "2 ranks on" in result.summary()


def test_a_keras_model_comes_back_working_from_inside_a_container() -> None:
    """A model in a dict predicts on the driver what it predicted on the worker."""

    @distribute(MultiWorker(2), logs=None)
    def build() -> dict[str, Any]:
        import keras
        import numpy as np

        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(loss="mse", optimizer="adam")
        rows = np.ones((8, 4), "float32")
        model.fit(rows, np.ones((8, 2), "float32"), verbose=0)
        return {"model": model, "predicted": model(rows[:1]).numpy()}

    value = build()

    predicted = value["model"].predict(np.ones((1, 4), "float32"), verbose=0)
    np.testing.assert_allclose(predicted, value["predicted"], rtol=1e-6)
    assert int(value["model"].optimizer.iterations) == 1


def test_lambdas_closures_methods_and_partials_run() -> None:
    """Whatever is callable and picklable is a train function."""

    class Trainer:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @distribute(MultiWorker(1), logs=None, scope=False)
        def train(self, value: int) -> int:
            return self.factor * value

        def plain(self, value: int) -> int:
            return self.factor + value

    launcher = Launcher(MultiWorker(1), logs=None, scope=False)
    offset = 100

    def closure(value: int) -> int:
        return value + offset

    assert launcher.run(lambda value: value * 2, 21).value == 42
    assert launcher.run(closure, 1).value == 101
    assert launcher.run(Trainer(5).plain, 2).value == 7
    assert Trainer(5).train(4) == 20
    assert launcher.run(math.sqrt, 9.0).value == 3.0


def test_a_custom_training_loop_reduces_over_both_workers() -> None:
    """tf.distribute used by hand: a sum over replicas sees both workers."""

    @distribute(MultiWorker(2), logs=None)
    def loop() -> float:
        import tensorflow as tf

        strategy = get_context().strategy
        variable = tf.Variable(0.0)
        rank = float(get_context().rank)

        @tf.function
        def step() -> Any:
            def replica() -> Any:
                variable.assign_add(1.0)
                return tf.constant(rank + 1.0)

            return strategy.reduce("SUM", strategy.run(replica), axis=None)

        return float(step())

    assert loop.run().values == (3.0, 3.0)


def test_without_scope_the_function_builds_its_own_strategy() -> None:
    """scope=False leaves the runtime alone; TF_CONFIG is enough to build a strategy."""

    @distribute(MultiWorker(2), logs=None, scope=False)
    def own() -> int:
        import tensorflow as tf

        assert not tf.distribute.has_strategy()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return int(strategy.num_replicas_in_sync)

    assert own.run().values == (2, 2)


def test_environment_reaches_the_children_and_not_the_caller() -> None:
    """env= sets variables of the children, before Python starts; the caller's are untouched."""

    @distribute(MultiWorker(1), logs=None, scope=False, env={"NCCL_IB_HCA": "mlx5_0"})
    def read() -> str:
        return os.environ["NCCL_IB_HCA"]

    result = read.run()

    assert result.value == "mlx5_0"
    assert result.settings["NCCL_IB_HCA"] == "mlx5_0"
    assert "NCCL_IB_HCA" not in os.environ
    assert "TF_CONFIG" not in os.environ


def test_output_arrives_live_with_its_rank(spark: SparkSession) -> None:
    """A line is on the driver while the function still waits for the driver's answer to it."""
    lines: list[str] = []
    seen = threading.Event()

    def show(line: str) -> None:
        lines.append(line)
        if "from 1" in line:
            seen.set()

    @distribute(MultiWorker(2), logs=show, spark=spark)
    def chat(flag: str) -> bool:
        import sys
        import time

        print(f"from {get_context().rank}")
        print("to stderr", file=sys.stderr)
        deadline = time.monotonic() + 60
        while not Path(flag).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return Path(flag).exists()

    flag = Path(f"/tmp/spark_strategy-test-{os.getpid()}")
    answer = threading.Thread(target=lambda: seen.wait(60) and flag.touch())
    answer.start()
    try:
        result = chat.run(str(flag))
    finally:
        answer.join()
        flag.unlink(missing_ok=True)
    assert result.values == (True, True)
    assert "worker:0 | from 0" in lines
    assert "worker:1 | from 1" in lines
    assert "worker:1 | to stderr" in lines


@pytest.mark.timeout(300)
def test_a_flood_of_output_stalls_neither_side(spark: SparkSession) -> None:
    """100 MB from one worker: the run ends, the driver gets a part and is told of the rest."""
    lines: list[str] = []

    @distribute(MultiWorker(1), logs=lines.append, scope=False, timeout_s=240)
    def flood() -> int:
        import sys

        for _ in range(1000):
            sys.stdout.write(("x" * 999 + "\n") * 100)
        print("the end")
        return 100

    assert flood() == 100
    received = sum(map(len, lines))
    assert received < 50 * 2**20
    left_out = [line for line in lines if "lines left out" in line]
    assert left_out
    counted = sum(int(line.split("... ")[1].split()[0]) for line in left_out)
    shown = sum(1 for line in lines if line.endswith("x" * 999))
    assert counted + shown >= 100_000


def test_local_calls_the_plain_function() -> None:
    """.local() needs no Spark and no TensorFlow process."""
    here = os.getpid()

    @distribute(MultiWorker(2))
    def where(offset: int) -> int:
        """Says where it runs."""
        return os.getpid() + offset

    assert where.local(1) == here + 1
    assert distribute(MultiWorker(4))(lambda: get_context().num_workers).local() == 1
    assert where.__name__ == "where"
    assert where.__doc__ == "Says where it runs."


def test_get_context_outside_a_run_is_refused() -> None:
    """The error says where the function works."""
    with pytest.raises(PlanError, match="none is running in this process"):
        get_context()


def test_what_a_function_returned_is_no_function() -> None:
    """``run(train())`` has trained here, and is refused before it is launched."""
    independent = Launcher(Independent(1), logs=None)
    for run in (
        lambda: Launcher(MultiWorker(2), logs=None).run(3),  # type: ignore[arg-type]
        lambda: independent.map(3, [{}]),  # type: ignore[arg-type]
    ):
        with pytest.raises(PlanError, match=r"not run\(train\(epochs=3\)\); found 3"):
            run()


def test_plan_is_printable_and_launches_nothing(spark: SparkSession) -> None:
    """The dry run names the topology, the tasks, the slots and the deadlines."""
    text = str(Launcher(MultiWorker(2), spark=spark, timeout_s=60, env={"A": "secret"}).plan())

    assert "MultiWorker(2)" in text
    assert "worker:0, worker:1" in text
    assert "2 of 2" in text
    assert "60 s" in text
    assert "secret" not in text


def test_exit_handlers_and_threads_of_the_function_end_in_peace(tmp_path: Path) -> None:
    """The child leaves quickly, but not before what the function left to finish has finished."""

    @distribute(MultiWorker(1), logs=None, scope=False)
    def train(folder: str) -> None:
        import atexit
        import time

        def late() -> None:
            time.sleep(0.5)
            Path(folder, "thread").touch()

        threading.Thread(target=late).start()
        atexit.register(lambda: Path(folder, "handler").touch())

    train(str(tmp_path))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["handler", "thread"]


def test_files_and_modules_that_spark_has_sent_are_found(
    spark: SparkSession, tmp_path: Path
) -> None:
    """``SparkFiles.get`` and modules of ``addPyFile`` work in a train function as in a task."""
    (tmp_path / "vocabulary.txt").write_text("cat dog")
    (tmp_path / "side_module_of_a_test.py").write_text("VALUE = 7\n")
    spark.sparkContext.addFile(str(tmp_path / "vocabulary.txt"))
    spark.sparkContext.addPyFile(str(tmp_path / "side_module_of_a_test.py"))

    def look() -> tuple[str, int, bool]:
        import sys

        imported_before = "pyspark" in sys.modules
        import side_module_of_a_test  # type: ignore[import-not-found]
        from pyspark import SparkFiles

        text = Path(SparkFiles.get("vocabulary.txt")).read_text()
        return text, side_module_of_a_test.VALUE, imported_before

    launcher = Launcher(Independent(1), logs=None, scope=False)

    assert launcher.run(look).value == ("cat dog", 7, False)
