"""Runs two workers, the task of one of which hangs before it can meet the other.

It is also the module of Spark's Python daemon on that host, which is how that task comes to hang.
"""

import json
import os
import sys
import time
from pathlib import Path


def be_the_daemon() -> None:
    """Spark's own, in whose workers rank 1 hangs (a dead network disk)."""
    from pyspark.daemon import manager

    from spark_strategy.spark import task

    station = task.Rank._station

    def hang(rank: task.Rank, held: object) -> object:
        while rank._rank == 1:
            time.sleep(1.0)
        return station(rank, held)

    task.Rank._station = hang
    manager()


def main() -> None:
    """Print the error and the jobs that are active after it."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    from pyspark.sql import SparkSession

    from spark_strategy import Launcher, MultiWorker
    from spark_strategy.errors import SparkStrategyError

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.python.daemon.module", "hangs_at_start")
        .getOrCreate()
    )
    spark.range(1).count()  # Spark is warm
    found = {}
    try:
        Launcher(MultiWorker(2), start_timeout_s=20, spark=spark).run(lambda: 1)
    except SparkStrategyError as error:
        found = {"error": type(error).__name__, "text": str(error)}
    found["active"] = list(spark.sparkContext.statusTracker().getActiveJobsIds())
    spark.stop()
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
elif __name__ == "hangs_at_start":
    be_the_daemon()
