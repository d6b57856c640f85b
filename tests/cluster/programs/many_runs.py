"""RUNS: that many runs in one session, and what this process tree held after each."""

import json
import os
import sys
import time
from pathlib import Path

import psutil
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, get_context


def held():
    """Processes below this one, files open in each that we can name, entries in folders."""
    me = psutil.Process()
    tree = [one for one in me.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    temporary = [Path(os.environ["TMPDIR"]), *Path(os.environ["SPARK_LOCAL_DIRS"]).glob("spark-*")]
    return {
        "processes": sorted(one.name() for one in tree),
        "driver fds": me.num_fds(),
        "driver threads": me.num_threads(),
        "worker fds": max([one.num_fds() for one in tree if "python" in one.name()], default=0),
        "temporary": sum(len(list(folder.rglob("*"))) for folder in temporary),
    }


def settled():
    """What is held, once Spark has cleaned up behind the last job."""
    last = held()
    for _ in range(10):
        time.sleep(0.2)
        now = held()
        if now == last:
            break
        last = now
    return last


if __name__ == "__main__":
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    launcher = Launcher(MultiWorker(2), logs=None)
    history = []
    for number in range(int(sys.argv[1])):
        values = launcher.run(lambda number=number: (number, get_context().rank)).values
        assert values == ((number, 0), (number, 1)), values
        history.append(settled())
    print(json.dumps(history))
