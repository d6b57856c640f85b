"""Hyper-parameter trials, as many at a time as Spark has slots.

    python examples/hyperparameter_trials.py --slots 2

Trains one classifier of scikit-learn's 1,797 real digits for each combination of learning rate and
width. Every trial is a single TensorFlow process of its own; one that fails costs no other.
"""

import argparse
import itertools
import os
import sys

from pyspark.sql import SparkSession

from spark_strategy import Independent, Launcher


def trial(rate: float, units: int, epochs: int) -> float:
    """Accuracy on digits that this trial was not trained on."""
    import keras
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    keras.utils.set_random_seed(1)
    pixels, digits = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, digits, random_state=1)
    model = keras.Sequential(
        [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(10, "softmax")]
    )
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"rate {rate}, {units} units: {accuracy:.3f}")
    return accuracy


def main() -> None:
    """Tries all combinations and prints the best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-5, 1e-2])
    parser.add_argument("--units", type=int, nargs="+", default=[64])
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master(f"local[{args.slots}]").getOrCreate()
    items = [
        {"rate": rate, "units": units, "epochs": args.epochs}
        for rate, units in itertools.product(args.rates, args.units)
    ]
    trials = Launcher(Independent(args.slots)).map(trial, items)
    spark.stop()

    for index, error in trials.failed.items():
        print(f"{items[index]} failed: {error}")
    if not trials.succeeded:
        raise SystemExit("No trial succeeded.")
    best, accuracy = max(trials.succeeded.items(), key=lambda one: one[1])
    print(f"best of {len(items)}: accuracy {accuracy:.3f} with rate {items[best]['rate']}")


if __name__ == "__main__":
    main()
