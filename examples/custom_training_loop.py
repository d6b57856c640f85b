"""A training loop of one's own: GradientTape, strategy.run and a distributed dataset.

    python examples/custom_training_loop.py --workers 2 --steps 200

Uses the 1,797 real images of handwritten digits in scikit-learn. The loop is the one of
TensorFlow's guide to custom training; only the strategy comes from `get_context()`.
"""

import argparse

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

from spark_strategy import MultiWorker, RunResult, distribute, get_context


def load(batch_size: int) -> tf.data.Dataset:
    """Endless shuffled batches of (batch_size, 64) pixels and (batch_size,) digits."""
    pixels, digits = load_digits(return_X_y=True)
    examples = tf.data.Dataset.from_tensor_slices((pixels.astype("float32") / 16, digits))
    return examples.shuffle(len(digits), seed=1).repeat().batch(batch_size, drop_remainder=True)


def train(steps: int, batch_size: int) -> float:
    """The mean loss of the last 20 steps, the same in every worker."""
    strategy = get_context().strategy
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    optimizer = keras.optimizers.SGD(0.2)
    optimizer.build(model.trainable_variables)
    losses_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    def replica_step(pixels: tf.Tensor, digits: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = losses_of(digits, model(pixels, training=True))
            # Each replica sees a part of the batch; gradients are summed over replicas.
            loss = tf.reduce_sum(losses) / batch_size
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def step(pixels: tf.Tensor, digits: tf.Tensor) -> tf.Tensor:
        losses = strategy.run(replica_step, args=(pixels, digits))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    batches = iter(strategy.experimental_distribute_dataset(load(batch_size)))
    history = [float(step(*next(batches))) for _ in range(steps)]
    return sum(history[-20:]) / len(history[-20:])


def main() -> None:
    """Trains on Spark and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    chosen = parser.parse_args()

    on_spark = distribute(MultiWorker(chosen.workers))(train)
    result: RunResult = on_spark.run(chosen.steps, batch_size=chosen.batch_size)

    losses = ", ".join(f"{loss:.4f}" for loss in result.values)
    print(f"loss by rank after {chosen.steps} steps: {losses}")


if __name__ == "__main__":
    main()
