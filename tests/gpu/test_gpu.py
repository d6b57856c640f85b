"""On a machine with a GPU: Spark assigns it, ranks compute on it, and the numbers are the CPU's.

``tox run -e gpu``; not part of ``.ci/run``, which must pass on machines without one. A task of the
session holds a quarter of a GPU, and a rank with ``gpus_per_worker=1`` a whole one. Two ranks share
the GPU where there is one; NCCL between them is skipped there, which wants one for each. What of
this has been run where: docs/gpus.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_strategy import (
    Launcher,
    ModelParallel,
    MultiWorker,
    ParameterServer,
    fit,
    get_context,
    predict,
)

pytestmark = pytest.mark.timeout(600)  # the first use of a kernel may compile it for this GPU

ROWS = 256
SHARED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
DISCOVERY = """#!/bin/sh
nvidia-smi --query-gpu=index --format=csv,noheader |
awk '{ all = all (NR > 1 ? "," : "") "\\"" $1 "\\"" }
END { printf "{\\"name\\": \\"gpu\\", \\"addresses\\": [%s]}", all }'
"""


def gpus_here() -> int:
    """GPUs of this machine; an error where there is none, or no driver."""
    listed = subprocess.check_output(["nvidia-smi", "-L"], text=True)
    return len(listed.splitlines())


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """An executor with all GPUs of this machine and four cores, of which a task holds a quarter."""
    amount = str(gpus_here())
    script = tmp_path_factory.mktemp("discovery") / "gpus.sh"
    script.write_text(DISCOVERY)
    script.chmod(0o755)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.update(SHARED)  # this process builds models; the model's server inherits it
    session = (
        SparkSession.builder.master("local-cluster[1,4,2048]")
        .config("spark.executor.memory", "2g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.worker.resource.gpu.amount", amount)
        .config("spark.worker.resource.gpu.discoveryScript", str(script))
        .config("spark.executor.resource.gpu.amount", amount)
        .config("spark.executor.resource.gpu.discoveryScript", str(script))
        .config("spark.task.resource.gpu.amount", "0.25")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def launcher(topology: Any, **options: Any) -> Launcher:
    """Of ranks that take no more of the GPU than they use."""
    return Launcher(topology, logs=None, timeout_s=500, env=SHARED, **options)


def devices() -> dict[str, Any]:
    """What a rank sees, and where its variables are."""
    import tensorflow as tf

    return {
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "variable": tf.Variable([1.0]).device.rpartition("/")[2],
        "replicas": tf.distribute.get_strategy().num_replicas_in_sync,
    }


def two_ranks(**options: Any) -> Launcher:
    """With a GPU each, or with a quarter of the one there is."""
    return launcher(MultiWorker(2), gpus_per_worker=1 if gpus_here() > 1 else None, **options)


@pytest.mark.parametrize(
    ("wanted", "gpus", "place"),
    [(1, 1, "device:GPU:0"), (None, 1, "device:GPU:0"), (0, 0, "device:CPU:0")],
)
def test_a_rank_sees_what_spark_assigned(
    spark: SparkSession, wanted: int | None, gpus: int, place: str
) -> None:
    """A whole GPU by a resource profile, the session's quarter of one, and none."""
    found = launcher(MultiWorker(1), gpus_per_worker=wanted).run(devices).value

    assert [bool(one) for one in found.pop("visible").split(",")] == [gpus > 0]
    assert found == {"gpus": gpus, "variable": place, "replicas": 1}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Images and classes."""
    random = np.random.default_rng(1)
    x = random.normal(size=(ROWS, 8, 8, 1)).astype("float32")
    return x, (x.mean(axis=(1, 2, 3)) > 0).astype("int64")


def trained(policy: str = "float32", **compiled: Any) -> dict[str, Any]:
    """History and weights of a small convolution, whose batches stay in their order."""
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.Flatten(),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=0.5)
    model.compile(optimizer, loss, metrics=["accuracy"], **compiled)
    data = tf.data.Dataset.from_tensor_slices(rows()).batch(ROWS // 4)
    history = model.fit(data, epochs=3, validation_data=data, verbose=0).history
    placed = {variable.value.device.rpartition("/")[2] for variable in model.trainable_variables}
    return {
        "history": {name: [float(one) for one in values] for name, values in history.items()},
        "weights": [np.asarray(weight) for weight in model.get_weights()],
        "steps": int(model.optimizer.iterations.numpy()),
        "placed": placed,
    }


def agree(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float = 1e-4) -> None:
    """History, weights and steps are the same."""
    assert ours["steps"] == theirs["steps"]
    assert ours["history"].keys() == theirs["history"].keys()
    for name, values in theirs["history"].items():
        # A row on the boundary between two classes may fall to either side.
        slack = 2 / ROWS if "accuracy" in name else tolerance
        np.testing.assert_allclose(ours["history"][name], values, rtol=slack, atol=slack)
    for one, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def on_cpu(spark: SparkSession) -> dict[str, Any]:
    """The same training by one rank without a GPU."""
    found: dict[str, Any] = launcher(MultiWorker(1), gpus_per_worker=0).run(trained).value
    assert found["placed"] == {"device:CPU:0"}
    return found


@pytest.mark.parametrize("communication", ["auto", "nccl", "ring"])
def test_one_rank_with_a_gpu_equals_the_cpu(on_cpu: dict[str, Any], communication: str) -> None:
    """Of a whole GPU, with each kind of collectives."""
    asked = launcher(MultiWorker(1), gpus_per_worker=1, communication=communication)
    found = asked.run(trained).value

    assert found["placed"] == {"device:GPU:0"}
    agree(found, on_cpu)


def test_xla_is_taken_back(on_cpu: dict[str, Any]) -> None:
    """jit_compile=True would end in an error of TensorFlow's (keras#19005)."""
    found = launcher(MultiWorker(1), gpus_per_worker=1).run(trained, jit_compile=True).value

    agree(found, on_cpu)


@pytest.mark.parametrize("compiled", [{}, {"steps_per_execution": 4}], ids=str)
@pytest.mark.parametrize("communication", ["auto", "ring", "nccl"])
def test_two_ranks_equal_one_process(
    on_cpu: dict[str, Any], communication: str, compiled: dict[str, Any]
) -> None:
    """Gradients, clipping, metrics and normalisation go between ranks from GPU memory."""
    if communication == "nccl" and gpus_here() < 2:
        pytest.skip("NCCL wants a GPU for each rank")
    asked = two_ranks(communication=communication)
    values = asked.run(trained, **compiled).values

    for value in values:
        assert value["placed"] == {"device:GPU:0"}
        agree(value, on_cpu)


def test_mixed_precision_of_two_ranks(on_cpu: dict[str, Any]) -> None:
    """float16 with loss scaling, on units that compute it."""
    one, other = two_ranks().run(trained, policy="mixed_float16").values

    agree(one, other, tolerance=0.0)
    agree(one, on_cpu, tolerance=0.05)


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    """The rows on Spark."""
    x, y = rows()
    flat = [(row.reshape(-1).tolist(), int(one)) for row, one in zip(x, y, strict=True)]
    return spark.createDataFrame(flat, "x array<float>, y long").coalesce(2).persist()


def build() -> Any:
    """A model of the flat rows; full-batch descent does not depend on their order."""
    import keras

    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model


def test_fit_feeds_gpus(spark: SparkSession, frame: DataFrame) -> None:
    """Rows from Spark, two ranks on GPUs, and the losses of one on the CPU."""
    on_cpu = launcher(MultiWorker(1), gpus_per_worker=0)
    ours, theirs = (
        fit(build, frame, launcher=one, features="x", label="y", batch_size=ROWS, epochs=4).history[
            "loss"
        ]
        for one in (two_ranks(), on_cpu)
    )

    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # TF32 is on


def serves(process: psutil.Process) -> bool:
    """Whether it holds a model for this machine's tasks."""
    return "spark_strategy.worker.serve" in (process.info["cmdline"] or [])


def is_used_by(pid: int) -> bool:
    """Whether this process has opened a GPU."""
    opened = Path(f"/proc/{pid}/fd").iterdir()
    return any(str(one.readlink()).startswith("/dev/nvidia") for one in opened)


def test_predict_scores_on_the_gpu(spark: SparkSession, frame: DataFrame) -> None:
    """One server on the GPU for all tasks of the executor."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    scored = predict(model, frame.repartition(4), features="x", batch_size=64).toArrow()
    used = [is_used_by(one.pid) for one in psutil.process_iter(["cmdline"]) if serves(one)]
    x = np.array(scored["x"].to_pylist(), "float32")
    ours = np.array(scored["prediction"].to_pylist())

    assert len(ours) == ROWS
    assert used == [True]
    # TF32 has ten bits of mantissa; the driver may be without a GPU.
    np.testing.assert_allclose(ours, model.predict(x, verbose=0), atol=2e-3)


def sharded_product() -> dict[str, Any]:
    """A matrix product on the mesh, and where it was computed."""
    import tensorflow as tf
    from tensorflow.experimental import dtensor

    mesh = get_context().mesh
    x = np.random.default_rng(5).normal(size=(16, 8)).astype("float32")
    everywhere = dtensor.Layout.replicated(mesh, rank=2)
    columns = dtensor.Layout([dtensor.UNSHARDED, "model"], mesh)
    kernel = dtensor.DVariable(dtensor.relayout(dtensor.copy_to_mesh(x, everywhere), columns))
    product = dtensor.relayout(tf.matmul(kernel, kernel, transpose_a=True), everywhere)
    (whole,) = dtensor.unpack(product)
    return {
        "device": mesh.local_devices()[0].rpartition("/")[2],
        "product": whole.numpy(),
        "expected": x.T @ x,
    }


def test_a_mesh_of_gpus(spark: SparkSession) -> None:
    """DTensor takes the GPU that Spark assigned."""
    mesh = {"batch": 1, "model": 1}
    found = launcher(ModelParallel(1, mesh=mesh), gpus_per_worker=1).run(sharded_product).value

    assert found["device"] == "device:GPU:0"
    np.testing.assert_allclose(found["product"], found["expected"], rtol=1e-2, atol=1e-2)


def served() -> dict[str, Any]:
    """Training by workers that have a GPU."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices(rows()).batch(32)
    history = model.fit(data, epochs=3, verbose=0).history
    steps = int(model.optimizer.iterations.numpy())
    devices = [one.name for one in tf.config.list_logical_devices("GPU")]
    return {"loss": history["loss"], "steps": steps, "devices": devices}


def test_parameter_server_workers_use_the_gpu(spark: SparkSession) -> None:
    """No step is lost, and each worker sees a GPU."""
    found = launcher(ParameterServer(2)).run(served).value

    assert found["steps"] == 3 * ROWS // 32
    assert found["loss"][-1] < found["loss"][0]
    for index in range(2):
        assert f"/job:worker/replica:0/task:{index}/device:GPU:0" in found["devices"]
