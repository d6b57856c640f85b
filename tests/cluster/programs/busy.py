"""MASTER FLAG: runs that succeed, fail and are cancelled beside the session's other work."""

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, distribute, errors, get_context

FLAG = sys.argv[2]


def until_flag(rows):
    """The other work: one task that ends when the flag file is there."""
    import time
    from pathlib import Path

    deadline = time.monotonic() + 240
    while not Path(FLAG).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return [sum(rows)]


def addresses(tag):
    """Both ranks' names in the cluster, and the tag."""
    import json
    import os

    return tag, json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]


def fail():
    """Rank 1 raises while rank 0 waits for it in a collective."""
    import tensorflow as tf

    if get_context().rank == 1:
        raise ValueError("planned")
    strategy = get_context().strategy
    return float(strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None))


def error_of(launcher, function):
    """Class and first line of what a run raises."""
    try:
        launcher.run(function)
    except errors.SparkStrategyError as error:
        return type(error).__name__, str(error).splitlines()[0]
    return None


def in_threads(runs):
    """The runs' values, each from a thread of its own."""
    values = {}
    threads = [
        InheritableThread(target=lambda name=name, run=run: values.update({name: run()}))
        for name, run in runs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return values


if __name__ == "__main__":
    spark = SparkSession.builder.master(sys.argv[1]).getOrCreate()
    other = {}

    def other_work():
        """A job of the user's own, in a second thread."""
        other["sum"] = spark.sparkContext.parallelize([40, 2], 1).mapPartitions(until_flag).sum()

    thread = threading.Thread(target=other_work)
    thread.start()
    while not spark.sparkContext.statusTracker().getActiveJobsIds():
        time.sleep(0.05)
    answer = {
        "succeeds": distribute(MultiWorker(2), logs=None)(addresses)("beside")[0],
        "fails": error_of(Launcher(MultiWorker(2), logs=None), fail),
        # Four slots exist and the other work holds one.
        "waits": error_of(
            Launcher(MultiWorker(4), logs=None, start_timeout_s=6), partial(addresses, "waits")
        ),
        "other still runs": thread.is_alive() and "sum" not in other,
    }
    Path(FLAG).touch()
    thread.join(30)
    answer["other"] = other.get("sum")
    launcher = Launcher(MultiWorker(2), logs=None)
    answer["at once"] = in_threads(
        {tag: lambda tag=tag: launcher.run(addresses, tag).values for tag in ("a", "b")}
    )
    print(json.dumps(answer))
