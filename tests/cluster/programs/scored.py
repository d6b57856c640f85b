"""classic|connect ADDRESS: `predict` and a SQL function on executors that are processes."""

import json
import sys

import keras
import numpy as np
from pyspark.sql import SparkSession

from spark_strategy import predict, register_udf

# One executor may be done long before the other, and its model is still to be seen then.
IDLE_S = 20.0


def holders(batches):
    """Where this task runs, and the models that are held there."""
    from pathlib import Path

    import pyarrow as pa
    from pyspark import SparkFiles

    for _ in batches:
        pass
    here = Path(SparkFiles.getRootDirectory()).absolute()
    found = [len([*here.glob("spark_strategy_model-*/alive")])]
    yield pa.RecordBatch.from_pydict({"place": [str(here)], "models": pa.array(found, pa.int64())})


if __name__ == "__main__":
    kind, address = sys.argv[1:]
    builder = SparkSession.builder
    session = builder.remote(address) if kind == "connect" else builder.master(address)
    spark = session.getOrCreate()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    rows = spark.range(0, 1000, 1, 8).selectExpr(
        "id", "array(float(id % 7), float(id % 5), float(id % 3)) as x", "double(id % 7) as a"
    )
    asked = {"features": "x", "batch_size": 50, "idle_s": IDLE_S}
    scored = predict(model, rows, **asked).toPandas()
    places = spark.range(0, 64, 1, 64).mapInArrow(holders, "place string, models long").toPandas()
    x = np.stack([np.arange(1000) % 7, np.arange(1000) % 5, np.arange(1000) % 3], axis=1)
    alone = model.predict(x.astype("f4"), verbose=0)
    register_udf(spark, "score", model, idle_s=IDLE_S)
    rows.createOrReplaceTempView("t")
    by_sql = spark.sql("select id, score(x) as p from t order by id").toPandas()
    got = np.stack(list(scored.sort_values("id")["prediction"]))
    answer = {
        "ids": scored["id"].tolist() == list(range(1000)),
        "off": float(np.abs(got - alone).max()),
        # In batches of another size, so not bit by bit.
        "sql": float(np.abs(np.stack(list(by_sql["p"])) - got).max()),
        "models": sorted(places.groupby("place")["models"].max().tolist()),
        "empty": predict(model, rows.where("id < 0"), **asked).toPandas().columns.tolist(),
    }
    print(json.dumps(answer))
