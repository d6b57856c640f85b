"""URI: every public path of the library on that filesystem, as one line of JSON.

The driver has a HADOOP_CONF_DIR, and the ranks have none. Paths without a scheme are on the default
filesystem, which is URI.
"""

import json
import os
import sys

import numpy as np
from pyspark.sql import SparkSession

from spark_strategy import Evaluator, KerasModel, Launcher, MultiWorker, get_context, predict


def train(uri):
    """Reads a table, saves a file, a SavedModel and weights; what it saw."""
    import keras
    import tensorflow as tf

    context = get_context()
    rows = context.parquet("table", features="id", batch_size=8)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    for name in ("last.keras", "last.weights.h5", "exported"):
        context.save(model, f"models/{name}")
    context.save(model, f"{uri}/watched/epoch-1.keras")
    return {
        "conf": os.environ["HADOOP_CONF_DIR"],
        "files": [part.path for part in context.files("table")],
        "rows": sum(int(batch.shape[0]) for batch in rows),
        "kernel": float(model.get_weights()[0][0, 0]),
        "there": tf.io.gfile.exists(f"{uri}/watched/epoch-1.keras"),
    }


def evaluate(path):
    """The weight of a checkpoint."""
    import keras

    return {"kernel": float(keras.saving.load_model(path).get_weights()[0][0, 0])}


def build():
    """The model that the weights are for."""
    import keras

    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def main(uri):
    """A run with an evaluator, and its models scored and kept."""
    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    )
    spark.range(20).write.parquet("table")
    launcher = Launcher(
        MultiWorker(1),
        spark=spark,
        env={"HADOOP_CONF_DIR": "/nowhere"},
        evaluator=Evaluator(evaluate, f"{uri}/watched", tensorboard=f"{uri}/events"),
    )
    result = launcher.run(train, uri)
    found = {"rank": result.value}
    found["evaluated"] = [(one.checkpoint, dict(one.metrics)) for one in result.evaluations]
    frame = spark.createDataFrame([(1.0,)], "x double")
    scores = [
        predict("models/last.keras", frame, features="x", output="p"),
        predict(
            f"{uri}/user/{spark.sparkContext.sparkUser()}/models/exported", frame, features="x"
        ),
        predict(build, frame, features="x", weights="models/last.weights.h5"),
    ]
    found["scores"] = [float(np.ravel(one.collect()[0][1])[0]) for one in scores]
    model = build()
    KerasModel(model).save("stages/one")
    kept = KerasModel.load("stages/one").model
    found["kept"] = [float(one.get_weights()[0][0, 0]) for one in (model, kept)]
    spark.stop()
    print(json.dumps(found))


main(sys.argv[1])
