"""A model of which each worker holds a part: dense layers sharded over a DTensor mesh.

    python examples/model_parallel.py --workers 2 --steps 100

The hidden layer's kernel is split by columns and the next one's by rows, so that each worker keeps
and updates its share of the units, and one sum over the workers joins them. Trained on
scikit-learn's 1,797 real digits.
"""

import argparse
import os
import sys

import numpy as np
from pyspark.sql import SparkSession

from spark_strategy import Launcher, ModelParallel, get_context


def train(units: int, steps: int) -> dict[str, float]:
    """Accuracy on digits kept apart, and the share of the weights that this worker holds."""
    import tensorflow as tf
    from sklearn.datasets import load_digits
    from tensorflow.experimental import dtensor

    mesh, whole = get_context().mesh, dtensor.UNSHARDED
    pixels, digits = load_digits(return_X_y=True)
    kept_apart = np.arange(len(digits)) % 5 == 0

    def variable(seed: int, shape: list[int], sharding: list[str]) -> dtensor.DVariable:
        def initial() -> tf.Tensor:
            scale = (2 / shape[0]) ** 0.5
            return scale * tf.random.stateless_normal(shape, [seed, 0])

        return dtensor.DVariable(
            dtensor.call_with_layout(tf.function(initial), dtensor.Layout(sharding, mesh))
        )

    hidden = variable(1, [64, units], [whole, "model"])
    out = variable(2, [units, 10], ["model", whole])

    def everywhere(values: np.ndarray) -> tf.Tensor:
        layout = dtensor.Layout.replicated(mesh, rank=values.ndim)
        return dtensor.copy_to_mesh(tf.constant(values), layout)

    def logits(x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.nn.relu(tf.matmul(x, hidden)), out)

    def step(x: tf.Tensor, y: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.softmax_cross_entropy_with_logits(y, logits(x))
            loss = tf.reduce_mean(losses)
        for weight, gradient in zip((hidden, out), tape.gradient(loss, (hidden, out)), strict=True):
            weight.assign_sub(rate * gradient)
        return loss

    x, one_hot = (pixels / 16).astype("float32"), np.eye(10, dtype="float32")[digits]
    inputs = everywhere(x[~kept_apart]), everywhere(one_hot[~kept_apart])
    rate, step = everywhere(np.float32(0.5)), tf.function(step, autograph=False)
    for _ in range(steps):
        step(*inputs, rate)

    replicated = dtensor.relayout(
        logits(everywhere(x[kept_apart])), dtensor.Layout.replicated(mesh, rank=2)
    )
    guessed = np.argmax(dtensor.unpack(replicated)[0], axis=1)
    parts = [part for w in (hidden, out) for part in dtensor.unpack(w.read_value())]
    held = sum(part.shape.num_elements() for part in parts)
    return {
        "accuracy": float(np.mean(guessed == digits[kept_apart])),
        "share": held / (64 * units + units * 10),
    }


def main() -> None:
    """Trains on Spark and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master(f"local[{args.workers}]").getOrCreate()
    launcher = Launcher(ModelParallel(args.workers, mesh={"model": args.workers}))
    values = launcher.run(train, args.units, args.steps).values
    spark.stop()

    shares = ", ".join(f"{value['share']:.2f}" for value in values)
    print(f"test accuracy {values[0]['accuracy']:.3f}; share of the weights by rank: {shares}")


if __name__ == "__main__":
    main()
