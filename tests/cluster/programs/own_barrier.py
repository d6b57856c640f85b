"""MASTER: join_cluster inside the user's own barrier stages."""

import json
import sys

from pyspark import BarrierTaskContext
from pyspark.sql import SparkSession

from spark_strategy import join_cluster


def total(rank):
    """The sum over all ranks of rank + 1, by TensorFlow's own collective."""
    with join_cluster(BarrierTaskContext.get()) as resolver:
        import tensorflow as tf

        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        each = strategy.run(lambda: tf.constant(rank + 1.0))
        value = float(strategy.reduce("SUM", each, axis=None))
        return rank, value, f"{resolver.task_type}:{resolver.task_id}"


def on_rows(rows):
    """For rdd.barrier().mapPartitions."""
    list(rows)
    return [total(BarrierTaskContext.get().partitionId())]


def on_batches(batches):
    """For mapInArrow(barrier=True)."""
    import pyarrow as pa

    list(batches)
    rank, value, task = total(BarrierTaskContext.get().partitionId())
    yield pa.RecordBatch.from_pylist([{"rank": rank, "value": value, "task": task}])


if __name__ == "__main__":
    spark = (
        SparkSession.builder.master(sys.argv[1])
        .config("spark.python.worker.reuse", "false")
        .getOrCreate()
    )
    rdd = spark.sparkContext.parallelize(range(2), 2).barrier().mapPartitions(on_rows).collect()
    frame = spark.range(0, 2, 1, 2)
    mapped = frame.mapInArrow(on_batches, "rank long, value double, task string", barrier=True)
    arrow = sorted(tuple(row) for row in mapped.collect())
    print(json.dumps({"rdd": sorted(rdd), "arrow": arrow}))
