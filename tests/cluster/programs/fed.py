"""classic|connect ADDRESS RANKS: a DataFrame and `fit` on executors that are processes."""

import json
import sys

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, errors, fit, get_context


def ids(name):
    """Two epochs of this rank's batches."""
    batches = get_context().dataset(name, batch_size=64, features="id")
    return [[batch.numpy().tolist() for batch in batches] for _ in range(2)]


def build():
    """One number in, one out."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.3), "mse")
    return model


if __name__ == "__main__":
    kind, address, ranks = sys.argv[1:]
    builder = SparkSession.builder
    session = builder.remote(address) if kind == "connect" else builder.master(address)
    spark = session.getOrCreate()
    launcher = Launcher(MultiWorker(int(ranks)), logs=None, timeout_s=120)
    # Seven partitions, the first of which holds half of the rows.
    rows = spark.range(0, 500, 1, 1).union(spark.range(500, 1000, 1, 6))
    both = launcher.on({"train": rows, "validation": spark.range(100)})
    result = both.run(ids, "train")
    line = spark.range(0, 48, 1, 5).selectExpr("array(float(id) / 24 - 1) x", "float(id) / 8 - 3 y")
    fitted = fit(build, line, launcher=launcher, features="x", label="y", batch_size=48, epochs=25)
    holes = spark.range(100).selectExpr("if(id = 50, null, id) as id")
    try:
        launcher.on(holes).run(ids, "train")
        refused = ""
    except errors.DataError as error:
        refused = str(error)
    sorted_ids = spark.range(0, 1000, 1, 7).orderBy("id", ascending=False)
    alone = Launcher(MultiWorker(1), logs=None, timeout_s=120)
    answer = {
        "in order": alone.on(sorted_ids).run(ids, "train").value[0],
        "epochs": result.values,
        "rows": [stats.rows for stats in result.feed],
        "slope": float(fitted.model.get_weights()[0][0, 0]),
        "steps": int(fitted.model.optimizer.iterations.numpy()),
        "refused": refused,
    }
    print(json.dumps(answer))
