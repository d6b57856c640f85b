"""MASTER: a run that lasts until the driver is interrupted or killed; then one more run."""

import json
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, get_context


def sleep():
    """Says that it runs, then sleeps."""
    import os
    import time

    print("sleeping on", get_context().rank, "as", os.getpid())
    time.sleep(600)


if __name__ == "__main__":
    spark = SparkSession.builder.master(sys.argv[1]).getOrCreate()
    answer = {}
    try:
        Launcher(MultiWorker(2)).run(sleep)
    except KeyboardInterrupt:
        answer["raised at"] = time.time()
    print("interrupted", flush=True)
    active = spark.sparkContext.statusTracker().getActiveJobsIds()
    answer["active jobs"] = list(active)
    answer["again"] = Launcher(MultiWorker(2), logs=None).run(lambda: get_context().rank).values
    print(json.dumps(answer))
