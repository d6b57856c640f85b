"""MASTER: an executor that stands still with all below it, as if its host were gone."""

import json
import sys
import time
from pathlib import Path

import psutil
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, ParameterServer, errors, get_context
from spark_strategy.folder import ChildFolder


def train():
    """Longer than anybody waits."""
    import time

    print("trains")
    time.sleep(600)


def processes_around(task):
    """The executor of this task, and all below it."""
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.Error:  # it has ended
            continue
        if "spark_strategy.worker.entry" in command:
            order, _ = ChildFolder(Path(command[-1])).read_order()
            if str(order.task) == task:
                java = next(one for one in process.parents() if one.name() == "java")
                return [java, *java.children(recursive=True)]
    raise LookupError(task)


def missing(topology, task, calls):
    """How a run ends whose ``task`` stands still once ``calls`` ranks call the function."""
    stopped, began = [], 0.0

    def show(line):
        nonlocal calls, began
        calls -= line.endswith("| trains")
        if not calls and not stopped:
            stopped.extend(processes_around(task))
            began = time.monotonic()
            for process in stopped:
                process.suspend()

    answer = {}
    try:
        Launcher(topology, logs=show, timeout_s=90).run(train)
    except errors.SparkStrategyError as error:
        answer = {
            "error": type(error).__name__,
            "message": str(error),
            "failures": [[one.task, one.reason] for one in error.failures],
            "seconds": time.monotonic() - began,
        }
    for process in stopped:
        process.resume()
    answer["again"] = Launcher(MultiWorker(2), logs=None).run(lambda: get_context().rank).values
    return answer


if __name__ == "__main__":
    SparkSession.builder.master(sys.argv[1]).getOrCreate()
    answer = {
        "rank 0": missing(MultiWorker(2), "worker:0", 2),
        "a worker": missing(ParameterServer(1, chief="driver"), "worker:0", 1),
    }
    print(json.dumps(answer), flush=True)
