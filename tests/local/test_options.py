"""Options of a launcher, on a real local Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, distribute, get_context
from spark_strategy.errors import (
    CapacityError,
    ExecutorEnvironmentError,
    PlanError,
    RendezvousError,
)
from spark_strategy.spark.capacity import read
from spark_strategy.spark.executors import counted

UDF = "spark.sql.execution.pyspark.udf"

pytestmark = pytest.mark.usefixtures("spark", "leaves_nothing")


def addresses() -> list[str]:
    """Where the workers listen, as TensorFlow was told."""
    workers: list[str] = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    return workers


def test_ranks_listen_where_they_were_told() -> None:
    """Ports from the range, addresses from the subnet; the strategy works there."""
    launcher = Launcher(
        MultiWorker(2),
        logs=None,
        port_range=(42100, 42120),
        interface="127.0.0.0/8",
        communication="ring",
    )

    def train() -> tuple[list[str], float]:
        import tensorflow as tf

        strategy = get_context().strategy
        total = strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)
        return addresses(), float(total)

    result = launcher.run(train)

    workers, total = result.value
    assert total == 2.0
    assert {address.partition(":")[0] for address in workers} == {"127.0.0.1"}
    assert all(42100 <= int(address.partition(":")[2]) <= 42120 for address in workers)
    assert result.settings == {"communication": "ring", "interface": "127.0.0.0/8"}


def test_an_interface_that_a_host_lacks_is_named_with_those_it_has() -> None:
    """Every rank learns of it at the rendezvous; the error is not about a peer."""
    with pytest.raises(RendezvousError, match="no IPv4 address on interface='ib7'"):
        Launcher(MultiWorker(2), logs=None, interface="ib7").run(addresses)


def test_a_port_range_that_is_too_small_is_named() -> None:
    """One port cannot serve two ranks, a hub and the driver."""
    with pytest.raises(RendezvousError, match="a port for every rank and two more"):
        Launcher(MultiWorker(2), logs=None, port_range=(42130, 42131)).run(addresses)


def test_gpus_that_spark_does_not_assign_are_an_error_and_zero_hides_them() -> None:
    """A local session has no GPU tasks; gpus_per_worker=0 empties CUDA_VISIBLE_DEVICES."""
    hidden = Launcher(MultiWorker(1), logs=None, scope=False, gpus_per_worker=0)

    assert hidden.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).value == ""


def test_a_module_the_executors_lack_is_named_with_the_remedy(tmp_path: Path) -> None:
    """The function refers to a module that only the driver can import."""

    class Missing:
        def __reduce__(self) -> Any:
            return __import__, ("spark_strategy_test_no_such_module",)

    with pytest.raises(ExecutorEnvironmentError, match="register_pickle_by_value"):
        Launcher(MultiWorker(1), logs=None, scope=False).run(str, Missing())


def test_saving_on_every_rank_leaves_one_complete_artifact(tmp_path: Path) -> None:
    """get_context().save, model.save and an unmodified ModelCheckpoint, called by all ranks."""

    @distribute(MultiWorker(2), logs=None)
    def train(folder: str) -> list[float]:
        import keras
        import numpy as np

        keras.utils.set_random_seed(7)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(loss="mse", optimizer="sgd")
        rows = np.ones((8, 2), "float32")
        checkpoint = keras.callbacks.ModelCheckpoint(f"{folder}/epoch-{{epoch}}.keras")
        model.fit(rows, rows[:, :1], epochs=2, callbacks=[checkpoint], verbose=0)
        get_context().save(model, f"{folder}/context.keras")
        model.save(f"{folder}/plain.keras")
        get_context().save(model, f"{folder}/exported")
        return [float(value) for value in model.get_weights()[0].ravel()]

    weights = train(str(tmp_path))

    import keras

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "context.keras",
        "epoch-1.keras",
        "epoch-2.keras",
        "exported",
        "plain.keras",
    ]
    for name in ("context.keras", "epoch-2.keras", "plain.keras"):
        loaded = keras.saving.load_model(tmp_path / name)
        assert loaded.get_weights()[0].ravel().tolist() == pytest.approx(weights)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"topology": 2}, "A topology comes first"),
        ({"logs": "stdout"}, "logs is a function"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_launcher_refuses_what_makes_no_sense(options: dict[str, Any], text: str) -> None:
    """When it is made, before any Spark is touched."""
    with pytest.raises(PlanError, match=text):
        Launcher(**{"topology": MultiWorker(2), **options})


def test_an_unknown_option_lists_the_known_ones() -> None:
    """A misspelt option is answered with what there is."""
    with pytest.raises(PlanError, match=r"Unknown option timeout; the options are .*timeout_s"):
        distribute(MultiWorker(2), timeout=3)


def test_dynamic_allocation_is_refused_in_seconds() -> None:
    """A real session with the setting on; the message says which setting to change."""
    program = """
from pyspark.sql import SparkSession
from spark_strategy import MultiWorker, distribute
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    .config("spark.dynamicAllocation.enabled", "true").getOrCreate())
try:
    distribute(MultiWorker(2))(lambda: 1)()
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )

    assert done.stdout.startswith("CapacityError MultiWorker(2) needs all its 2 tasks at once")
    assert "spark.dynamicAllocation.enabled=false" in done.stdout


def test_a_session_that_ends_idle_workers_is_seen(spark: SparkSession) -> None:
    """The session's own setting counts, which begins with the context's."""
    assert read(spark).idle_kill_s == 0
    spark.conf.set(f"{UDF}.killOnIdleTimeout", "true")
    assert read(spark).idle_kill_s == 0  # without a number of seconds nothing is ended
    spark.conf.set(f"{UDF}.idleTimeoutSeconds", "7")
    try:
        assert read(spark).idle_kill_s == 7
    finally:
        for name in ("killOnIdleTimeout", "idleTimeoutSeconds"):
            spark.conf.unset(f"{UDF}.{name}")


def test_the_slots_of_a_profile_are_counted(spark: SparkSession) -> None:
    """A profile that this master does not support is refused with Spark's reason."""
    own = counted(spark.sparkContext, read(spark), None, tasks=2, timeout_s=5)
    assert own.slots == 2
    profile = ResourceProfileBuilder().require(TaskResourceRequests().cpus(2)).build
    with pytest.raises(CapacityError, match=r"Spark cannot use the resource profile on local\[2\]"):
        counted(spark.sparkContext, read(spark), profile, tasks=2, timeout_s=5)
