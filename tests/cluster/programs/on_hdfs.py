"""Training on HDFS: HDFS-URI -> what was seen, as one line of JSON. HADOOP_CONF_DIR names it."""

import json
import sys

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, get_context


def train(folder, result):
    """Reads every kind of file, and leaves every kind of result."""
    import keras
    import tensorflow as tf

    context = get_context()
    seen = {}
    for kind in ("plain", "zipped"):
        features = {"x": tf.io.FixedLenFeature([], tf.float32)}
        rows = context.tfrecords(f"{folder}/{kind}", batch_size=20, features=features)
        seen[kind] = [x for batch in rows for x in batch["x"].numpy().tolist()]
    numbers = context.parquet(f"{folder}/table", features="id", batch_size=20)
    seen["table"] = [x for batch in numbers for x in batch.numpy().tolist()]
    rows = rows.map(lambda one: (one["x"][:, None] / 100, 3 * one["x"] / 100))

    def built():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    callbacks = [
        keras.callbacks.ModelCheckpoint(
            f"{result}/epoch-{{epoch}}.weights.h5", save_weights_only=True
        ),
        keras.callbacks.ModelCheckpoint(f"{result}/epoch-{{epoch}}.keras"),
        keras.callbacks.BackupAndRestore(f"{result}/backup", delete_checkpoint=False),
        keras.callbacks.TensorBoard(f"{result}/logs"),
        keras.callbacks.CSVLogger(f"{result}/log.csv"),
    ]
    model = built()
    model.fit(rows, epochs=2, callbacks=callbacks, verbose=0)
    context.save(model, "/results/last.keras")
    context.save(model, f"{result}/last.weights.h5")
    context.save(model, f"{result}/saved_model")
    restored = built()
    ran = restored.fit(
        rows,
        epochs=3,
        callbacks=[keras.callbacks.BackupAndRestore(f"{result}/backup", delete_checkpoint=False)],
        verbose=0,
    )
    weight = float(model.get_weights()[0][0, 0])
    return {"seen": seen, "weight": weight, "epochs_after": len(ran.epoch)}


def kept(uri):
    """Weights of a Spark ML stage before it is saved, twice, and after it is loaded."""
    import keras
    from pyspark.ml import Pipeline, PipelineModel

    from spark_strategy import KerasEstimator, KerasModel

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    fitted = PipelineModel([KerasModel(model)])
    fitted.save(f"{uri}/fitted")
    fitted.write().overwrite().save(f"{uri}/fitted")
    Pipeline(stages=[KerasEstimator(model=model, epochs=7)]).save(f"{uri}/pipeline")
    loaded = PipelineModel.load(f"{uri}/fitted").stages[0].model
    (estimator,) = Pipeline.load(f"{uri}/pipeline").getStages()
    models = (model, loaded, estimator.getModel())
    weights = [[float(one.sum()) for one in each.get_weights()] for each in models]
    return {"weights": weights, "epochs": estimator.getEpochs()}


def main(uri):
    """Two runs on a local session."""
    spark = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    )
    found = {"default": spark.sparkContext._jsc.hadoopConfiguration().get("fs.defaultFS")}
    spark.range(150).repartition(3).write.parquet("/data/table")
    values = Launcher(MultiWorker(2), spark=spark).run(train, "/data", f"{uri}/results").values
    found["ranks"] = list(values)
    # As Spark's own: relative to the user's home.
    found["relative"] = (
        Launcher(MultiWorker(1), spark=spark)
        .run(lambda: [part.path for part in get_context().files("mine/part-*")])
        .value
    )
    found["stages"] = kept(f"{uri}/stages")
    spark.stop()
    print(json.dumps(found))


main(sys.argv[1])
