"""Spark's Python daemon, in whose workers rank 1 hangs before it meets the others (a dead disk)."""

import time

from pyspark.daemon import manager

from spark_strategy.spark import task

station = task.Rank._station


def hang(rank: task.Rank, held: object) -> object:
    """Never comes back, as rank 1."""
    while rank._rank == 1:
        time.sleep(1.0)
    return station(rank, held)


task.Rank._station = hang
manager()
