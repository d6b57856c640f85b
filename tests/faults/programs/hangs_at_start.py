"""Runs two workers, the task of one of which hangs before it can meet the other."""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Print the error and the jobs that are active after it."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    from pyspark.sql import SparkSession

    from spark_strategy import Launcher, MultiWorker
    from spark_strategy.errors import SparkStrategyError

    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.python.daemon.module", "hanging_daemon")
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
