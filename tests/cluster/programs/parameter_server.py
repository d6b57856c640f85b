"""MASTER: parameter-server training: a custom loop, Keras 3, tf_keras and rows from Spark."""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy import Launcher, MultiWorker, ParameterServer, fit, get_context


def loop(steps):
    """A loop as in TensorFlow's guide, unmodified."""
    import tensorflow as tf

    strategy = get_context().strategy
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        counted = tf.Variable(0, dtype=tf.int64)
        table = tf.Variable(tf.zeros([1001, 4]))

    def rows():
        return tf.data.Dataset.from_tensors(tf.ones([4], tf.int64)).repeat()

    batches = iter(coordinator.create_per_worker_dataset(rows))

    @tf.function(autograph=False)
    def step(iterator):
        return strategy.run(lambda row: counted.assign_add(row[0]), args=(next(iterator),))

    for _ in range(steps):
        coordinator.schedule(step, args=(batches,))
    coordinator.join()
    shards = [part.device for part in getattr(table, "variables", [table])]
    context = get_context()
    return {
        "placed": placed(),
        "task": str(context.task),
        "callers": context.num_workers,
        "counted": int(counted.numpy()),
        "shards": shards,
    }


def placed():
    """A model cut by hand, a layer on each worker: devices, and how far from the same in NumPy."""
    import numpy as np
    import tensorflow as tf

    random = np.random.default_rng(0)
    x, first, second = (random.normal(size=size) for size in ((5, 4), (4, 3), (3, 2)))
    one, two = tf.Variable(first), tf.Variable(second)
    with tf.GradientTape() as tape:
        with tf.device("/job:worker/task:0"):
            hidden = tf.linalg.matmul(x, one)
        with tf.device("/job:worker/task:1"):
            outputs = tf.linalg.matmul(hidden, two)
            error = tf.reduce_sum(outputs)
    got = [error, *tape.gradient(error, (one, two))]
    ones = np.ones((5, 2))
    wanted = [(x @ first @ second).sum(), x.T @ ones @ second.T, (x @ first).T @ ones]
    off = max(np.abs(one - other).max() for one, other in zip(got, wanted, strict=True))
    return [hidden.device, outputs.device, float(off)]


def numbers():
    """200 rows of eight numbers, and whether their sum is positive."""
    import numpy as np

    x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    return x, (x.sum(1) > 0).astype("int64")


def classifier(optimizer, **compiled):
    """Two classes; counts the rows it sees in a way of its own."""
    import keras

    class Rows(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="rows")
            self.total = self.add_variable((), "zeros", name="total")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign(self.total + keras.ops.shape(y_pred)[0])

        def result(self):
            return self.total

    model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
    metrics = ["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="entropy"), Rows()]
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(optimizer, loss, metrics=metrics, **compiled)
    return model


def keras3(folder):
    """fit, evaluate and predict in many ways; what is compared is computed with NumPy."""
    import keras
    import numpy as np
    import tensorflow as tf

    x, y = numbers()
    found = {}

    def forward(model):
        one, first, two, second = model.get_weights()
        scores = np.maximum(x @ one + first, 0) @ two + second
        return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)

    model = classifier(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200).batch(8)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, sorted(logs), int(self.model.optimizer.iterations.numpy())))

    best = keras.callbacks.ModelCheckpoint(f"{folder}/best.keras", "val_loss", save_best_only=True)
    history = model.fit(
        data.repeat(),
        steps_per_epoch=200,
        epochs=3,
        callbacks=[Watch(), best],
        validation_data=data,
        verbose=2,
    )
    found["history"] = history.history
    found["seen"] = seen
    found["devices"] = sorted({one.value.device for one in model.variables})
    found["prediction"] = float(
        np.abs(model.predict(x, batch_size=16, verbose=0) - forward(model)).max()
    )
    entropy = -np.log(forward(model)[np.arange(200), y])
    weights = np.linspace(0, 2, 200).astype("float32")
    logs = model.evaluate(x, y, sample_weight=weights, batch_size=16, verbose=0, return_dict=True)
    found["evaluated"] = [logs["loss"], float((entropy * weights).mean()), logs["rows"]]
    found["best"] = keras.models.load_model(
        f"{folder}/best.keras", custom_objects={"Rows": keras.metrics.Sum}, compile=False
    ).count_params()

    # A model that does not move, so that the loss of an epoch is known.
    still = classifier(keras.optimizers.SGD(0.0), steps_per_execution=7)
    still.build((None, 8))
    entropy = -np.log(forward(still)[np.arange(200), y])
    weighted = still.fit(
        lambda: tf.data.Dataset.from_tensor_slices((x, y)).batch(200),
        steps_per_epoch=10,
        class_weight={0: 1.0, 1: 3.0},
        verbose=0,
    ).history
    found["class_weight"] = [weighted["loss"][0], float((entropy * (1 + 2 * y)).mean())]
    found["executions"] = [int(still.optimizer.iterations.numpy()), weighted["rows"][0]]
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1.0, patience=1)
    found["stopped"] = len(
        still.fit(x, y, batch_size=20, epochs=9, callbacks=[stop], verbose=0).history["loss"]
    )

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, batch):
            inputs, _ = batch
            with tf.GradientTape() as tape:
                error = tf.reduce_mean(tf.square(self(inputs) - 1.0))
            weights = self.trainable_variables
            gradients = tape.gradient(error, weights)
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
            return {"error": error}

    own = Own()
    own.compile(keras.optimizers.SGD(0.05), loss="mse")
    found["own"] = own.fit(data.repeat(), steps_per_epoch=50, epochs=2, verbose=0).history["error"]

    def backed_up(epochs):
        made = classifier(keras.optimizers.SGD(0.01))
        backup = keras.callbacks.BackupAndRestore(f"{folder}/backup", delete_checkpoint=False)
        return made.fit(x, y, batch_size=20, epochs=epochs, callbacks=[backup], verbose=0), made

    backed_up(1)
    again, made = backed_up(3)
    found["resumed"] = [again.epoch, int(made.optimizer.iterations.numpy())]

    words = keras.Sequential(
        [keras.layers.Embedding(101, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    # Slow enough for gradients that are a step old.
    words.compile(keras.optimizers.SGD(0.25), "mse")
    ids = np.arange(101).reshape(-1, 1)
    target = (ids % 2).astype("float32")
    words.fit(ids, target, batch_size=8, epochs=40, verbose=0)
    found["table"] = {
        one.path.split("/")[-1]: [list(one.shape), one.value.device]
        for one in words.layers[0].weights
    }
    found["files"] = files(f"{folder}/records")
    found["learned"] = float(np.abs(words.predict(ids, verbose=0) - target).mean())
    return found, words


def files(folder):
    """TFRecord files of uneven sizes, trained on and evaluated by the workers."""
    import keras
    import tensorflow as tf

    tf.io.gfile.makedirs(folder)
    x, y = numbers()
    for part, rows in enumerate((range(150), range(150, 163), range(163, 200))):
        with tf.io.TFRecordWriter(f"{folder}/part-{part}") as writer:
            for row in rows:
                feature = {
                    "x": tf.train.Feature(float_list=tf.train.FloatList(value=x[row])),
                    "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[y[row]])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    features = {
        "x": tf.io.FixedLenFeature([8], tf.float32),
        "y": tf.io.FixedLenFeature([], tf.int64),
    }
    rows = get_context().tfrecords(
        folder, features=features, label="y", batch_size=10, shuffle=50, seed=1
    )
    model = classifier(keras.optimizers.Adam(0.01))
    losses = model.fit(rows, epochs=20, verbose=0).history["loss"]
    steps = int(model.optimizer.iterations.numpy())
    return [losses, steps, model.evaluate(rows, verbose=0, return_dict=True)["rows"]]


def keras2():
    """tf_keras as it is, with its DatasetCreator."""
    import tensorflow as tf
    import tf_keras

    x, y = numbers()
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, "softmax")])
    model.compile(tf_keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")

    def rows(_context):
        return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200).repeat().batch(8)

    creator = tf_keras.utils.experimental.DatasetCreator(rows)
    losses = model.fit(creator, steps_per_epoch=50, epochs=2, verbose=0).history["loss"]
    return [losses, int(model.optimizer.iterations.numpy())]


def regression():
    """A line through two columns."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


if __name__ == "__main__":
    spark = (
        SparkSession.builder.master(sys.argv[1])
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .getOrCreate()
    )
    import tempfile

    import tensorflow as tf

    halves = tf.distribute.experimental.partitioners.MinSizePartitioner(1 << 9, max_shards=2)
    split = ParameterServer(2, servers=2, partitioner=halves)
    launcher = Launcher(split, logs=None, timeout_s=170)
    looped = launcher.run(loop, 300)
    with tempfile.TemporaryDirectory() as folder:
        trained = launcher.run(keras3, folder)
    plain = Launcher(ParameterServer(2), logs=None, timeout_s=170)
    line = spark.range(0, 400, 1, 7).select(
        (F.rand(1) * 2 - 1).cast("float").alias("a"), (F.rand(2) * 2 - 1).cast("float").alias("b")
    )
    line = line.withColumn("y", 2 * F.col("a") - F.col("b") + 3)
    same = {"features": ["a", "b"], "label": "y", "batch_size": 10, "epochs": 4, "verbose": 0}
    fits = [
        fit(regression, line, launcher=one, validation=0.25, seed=3, **same)
        for one in (plain, Launcher(MultiWorker(2), logs=None, timeout_s=170))
    ]
    found, words = trained.value
    answer = {
        "fits": [
            {
                "weights": [weight.tolist() for weight in one.model.get_weights()],
                "history": one.history,
                "steps": int(one.model.optimizer.iterations.numpy()),
                "rows": [stats.rows for stats in one.run.feed],
            }
            for one in fits
        ],
        "keras2": plain.run(keras2).value,
        "loop": looped.value,
        "values": len(looped.values),
        "keras3": found,
        "words": [list(words.layers[0].get_weights()[0].shape), type(words).__name__],
        "hosts": len(looped.hosts),
    }
    print(json.dumps(answer), flush=True)
