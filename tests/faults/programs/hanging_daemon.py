"""Spark's Python daemon, in whose workers rank 1 hangs before it meets the others (a dead disk)."""

import os
import time

from pyspark.daemon import manager

from spark_strategy.spark import task

station = task.Rank._station


def hang(rank: task.Rank, held: object) -> object:
    """Never comes back, as rank 1; and ends with the daemon, which no hanging process would."""
    daemon = os.getppid()
    while rank._rank == 1:
        time.sleep(1.0)
        if os.getppid() != daemon:
            os._exit(1)
    return station(rank, held)


task.Rank._station = hang
manager()
