"""Checkpoints evaluated beside the training, as they appear.

    python examples/evaluator.py --workers 2 --epochs 4

Two workers train on scikit-learn's 1,797 real digits and save the model after each epoch; a third
process evaluates each of these models on digits kept apart, while training goes on.
"""

import argparse
import os
import sys
import tempfile

from pyspark.sql import SparkSession

from spark_strategy import Evaluator, Launcher, MultiWorker


def digits(*, kept_apart: bool) -> tuple:
    """Pixels from 0 to 1, shape (rows, 64), and digits; every fifth image is kept apart."""
    import numpy as np
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    chosen = (np.arange(len(labels)) % 5 == 0) == kept_apart
    return pixels[chosen] / 16, labels[chosen]


def train(folder: str, epochs: int) -> None:
    """Saves a model after each epoch."""
    import keras

    model = keras.Sequential(
        [keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = digits(kept_apart=False)
    save = keras.callbacks.ModelCheckpoint(f"{folder}/epoch-{{epoch}}.keras")
    model.fit(x, y, batch_size=32, epochs=epochs, callbacks=[save], verbose=2)


def evaluate(checkpoint: str) -> dict[str, float]:
    """Accuracy on the digits kept apart."""
    import keras

    model = keras.models.load_model(checkpoint)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.evaluate(*digits(kept_apart=True), verbose=0, return_dict=True)


def main() -> None:
    """Trains and evaluates on Spark, and prints the best checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master(f"local[{args.workers + 1}]").getOrCreate()
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(evaluate, folder, tensorboard=f"{folder}/tensorboard")
        launcher = Launcher(MultiWorker(args.workers), evaluator=evaluator)
        evaluations = launcher.run(train, folder, args.epochs).evaluations
    spark.stop()

    best = max(evaluations, key=lambda one: one.metrics["accuracy"])
    accuracy = best.metrics["accuracy"]
    print(f"best of {len(evaluations)} checkpoints: accuracy {accuracy:.3f} at epoch {best.step}")


if __name__ == "__main__":
    main()
