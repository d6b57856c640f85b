"""MASTER: parameter-server training whose chief is on the driver: how it goes, and how it ends."""

import contextlib
import json
import os
import sys
import time

import psutil
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import Launcher, ParameterServer, errors, get_context


def train():
    """A line through two columns; and who this process is."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    rows = get_context().dataset(batch_size=10, features=["a", "b"], label="y", shuffle=400)
    model.fit(rows, epochs=4, verbose=0)
    own = psutil.Process()
    print("trained")
    return {
        "task": str(get_context().task),
        "weights": [weight.ravel().tolist() for weight in model.get_weights()],
        "ancestors": [own.parent().ppid(), own.ppid()],
        "threads": os.environ["TF_NUM_INTRAOP_THREADS"],
        "gpus": os.environ["CUDA_VISIBLE_DEVICES"],
    }


def refuse():
    """A mistake of the user's."""
    raise ValueError("the chief has had enough")


def lose_a_server():
    """SIGKILL to the parameter server of this run, which is on this machine."""
    from pathlib import Path

    from spark_strategy.folder import ChildFolder

    # Folders of one session's runs are neighbours.
    own = Path(psutil.Process().cmdline()[-1]).parent
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "spark_strategy.worker.entry" in command and Path(command[-1]).parent == own:
            order, _ = ChildFolder(Path(command[-1])).read_order()
            if str(order.task) == "ps:0":
                process.kill()
    time.sleep(60)


def interrupt(driver):
    """Ctrl+C, at a moment when the chief runs."""
    import signal

    os.kill(driver, signal.SIGINT)
    time.sleep(60)


def runs_below(processes):
    """The guards and children of runs among these."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(process.cmdline()))
    return [line for line in found if "-m spark_strategy." in line]


def listening(process):
    """The ports that a process listens on."""
    return {one.laddr.port for one in process.net_connections("tcp") if one.status == "LISTEN"}


def ended(launcher, function, *args):
    """How a run ended that must not end well."""
    try:
        launcher.run(function, *args)
    except errors.SparkStrategyError as error:
        first = error.failures[0] if error.failures else None
        cause = [first.task, first.reason] if first else None
        return {"error": str(error), "from": repr(error.__cause__), "first": cause}
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
    return "nothing"


if __name__ == "__main__":
    spark = (
        SparkSession.builder.master(sys.argv[1])
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .getOrCreate()
    )
    own = psutil.Process()
    before = listening(own)
    lines = []
    launcher = Launcher(ParameterServer(1, chief="driver"), logs=lines.append, timeout_s=100)
    data = spark.range(0, 400, 1, 7).select(
        (F.rand(1) * 2 - 1).cast("float").alias("a"), (F.rand(2) * 2 - 1).cast("float").alias("b")
    )
    data = data.withColumn("y", 2 * F.col("a") - F.col("b") + 3)
    result = launcher.on(data).run(train)
    answer = {
        "value": result.value,
        "ranks": len(result.hosts),
        "rows": [stats.rows for stats in result.feed],
        "plan": str(launcher.plan()),
        "driver": os.getpid(),
        "too_large": ended(Launcher(ParameterServer(1)), train),
        "elsewhere": ended(Launcher(launcher.topology, interface="ib9"), train),
        "refused": ended(launcher, refuse),
        "lost": ended(launcher, lose_a_server),
    }
    answer["interrupted"] = ended(launcher, interrupt, os.getpid())
    answer["jobs"] = list(spark.sparkContext.statusTracker().getActiveJobsIds())
    answer["left"] = runs_below(own.children())
    deadline = time.monotonic() + 10
    while runs_below(own.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    answer["left later"] = runs_below(own.children(recursive=True))
    answer["listening"] = sorted(listening(own) - before)
    answer["warned"] = [line for line in lines if "WARNING:tensorflow" in line]
    answer["said"] = [line for line in lines if line.startswith("chief:0 | trained")]
    print(json.dumps(answer), flush=True)
