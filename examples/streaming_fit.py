"""Training on a stream: each micro-batch continues from the last weights, also after a restart.

    python examples/streaming_fit.py

Structured Streaming hands each micro-batch to ``learn``, which fits the newest model on it and
saves the result under the batch's number. Spark may hand a batch out again when a query was
stopped before it noted the batch as done; the number says whether it has been learned already.
Here the query ends in the middle, more data arrive, and another query goes on from the same
checkpoint. The data are scikit-learn's 1,797 real images of digits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_digits

from spark_strategy import Launcher, MultiWorker, fit

HELD_OUT = 297


def build_model() -> Any:
    """A small classifier of 8 x 8 images."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def learn(batch: DataFrame, number: int, *, models: Path, workers: int) -> None:
    """Fit the newest model on a micro-batch, unless that has been done."""
    import keras

    last = newest(models)
    if last is not None and number_of(last) >= number:
        return
    fitted = fit(
        build_model if last is None else keras.saving.load_model(last),
        batch,
        launcher=Launcher(MultiWorker(workers)),
        features="image",
        label="label",
        batch_size=32,
        epochs=5,
    )
    beside = models / "unfinished.keras"
    fitted.model.save(beside)
    beside.rename(models / f"{number:06d}.keras")
    accuracy = fitted.history["accuracy"][-1]
    print(f"batch {number}: {fitted.run.rows} rows, training accuracy {accuracy:.3f}")


def newest(models: Path) -> Path | None:
    """The model of the last batch that was learned."""
    return max(models.glob("[0-9]*.keras"), default=None)


def number_of(model: Path) -> int:
    """The batch a model was saved after."""
    return int(model.stem)


def run_query(spark: SparkSession, folder: Path, workers: int) -> None:
    """Learn from whatever has arrived, then stop."""
    rows = (
        spark.readStream.schema("image array<float>, label long")
        .option("maxFilesPerTrigger", 1)
        .parquet(str(folder / "arriving"))
    )
    query = (
        rows.writeStream.foreachBatch(
            lambda batch, number: learn(batch, number, models=folder / "models", workers=workers)
        )
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def arrive(folder: Path, name: str, images: Any, labels: Any) -> None:
    """A file of new rows, whole when it can be seen."""
    frame = pd.DataFrame({"image": list(images.astype(np.float32)), "label": labels})
    beside = folder / f"{name}.parquet"
    frame.to_parquet(beside)
    beside.rename(folder / "arriving" / beside.name)


def main() -> None:
    """Two queries over one stream."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    spark = SparkSession.builder.master(f"local[{asked.workers}]").getOrCreate()
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(labels))
    images, labels = images[order], labels[order]
    parts = np.array_split(np.arange(HELD_OUT, len(labels)), 3)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("arriving", "models"):
            (folder / name).mkdir()
        for number in (0, 1):
            arrive(folder, f"part-{number}", images[parts[number]], labels[parts[number]])
        run_query(spark, folder, asked.workers)
        print("the query has ended; more rows arrive, and another one goes on")
        arrive(folder, "part-2", images[parts[2]], labels[parts[2]])
        run_query(spark, folder, asked.workers)
        import keras

        model = keras.saving.load_model(newest(folder / "models"))
        _, accuracy = model.evaluate(images[:HELD_OUT], labels[:HELD_OUT], verbose=0)
        steps = int(model.optimizer.iterations.numpy())
    spark.stop()
    print(f"after {steps} steps over 3 batches and a restart: test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
