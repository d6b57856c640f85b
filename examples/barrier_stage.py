"""TensorFlow workers inside a barrier stage of one's own, with `join_cluster`.

    python examples/barrier_stage.py --workers 2

For programs that already run a barrier stage and want to keep it: `join_cluster` gathers the
addresses, sets TF_CONFIG and yields the resolver. What the library's own stages do beyond that
(a clean process per worker, supervision, live output) is then left to the program. In particular
Spark reuses its Python workers and TensorFlow can form a cluster only once in a process, so the
session below turns that reuse off.
"""

import argparse
import os
import sys
from collections.abc import Iterator

import tensorflow as tf
from pyspark import BarrierTaskContext
from pyspark.sql import SparkSession

from spark_strategy import join_cluster


def least_squares(rows: Iterator[tuple[list[float], float]]) -> Iterator[float]:
    """One barrier task: fits its rows together with the other tasks, yields the final loss."""
    features, targets = zip(*rows, strict=True)
    with join_cluster(BarrierTaskContext.get()) as resolver:
        # Before any other use of TensorFlow: the first operation fixes what it can connect to.
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        x, y = tf.constant(features), tf.constant(targets)[:, None]
        with strategy.scope():
            weights = tf.Variable(tf.zeros((x.shape[1], 1)))
            bias = tf.Variable(0.0)

        def replica_step() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((x @ weights + bias - y) ** 2)
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce("MEAN", tape.gradient(loss, [weights, bias]))
            weights.assign_sub(0.1 * gradients[0])
            bias.assign_sub(0.1 * gradients[1])
            return loss

        @tf.function
        def step() -> tf.Tensor:
            return strategy.reduce("MEAN", strategy.run(replica_step), axis=None)

        losses = [float(step()) for _ in range(100)]
    yield losses[-1]


def standardized_diabetes() -> list[tuple[list[float], float]]:
    """442 real patients of scikit-learn's diabetes data, each column with mean 0, deviation 1."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return list(zip(x.astype("float32").tolist(), y.tolist(), strict=True))


def main() -> None:
    """Runs the stage and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master(f"local[{chosen.workers}]")
        .config("spark.python.worker.reuse", "false")
        .getOrCreate()
    )
    rows = spark.sparkContext.parallelize(standardized_diabetes(), chosen.workers)
    losses = rows.barrier().mapPartitions(least_squares).collect()
    spark.stop()

    print(f"mean squared error by rank: {', '.join(f'{loss:.4f}' for loss in losses)}")


if __name__ == "__main__":
    main()
