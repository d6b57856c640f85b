"""``predict`` gives the bits of ``model.predict``, in order, from one model per executor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import psutil
import pytest
import tensorflow as tf
import tf_keras
from pyspark import SparkFiles
from pyspark.errors import PythonException
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it
from pyspark.sql import types as t

from spark_strategy import Column, KerasModel, filesystem, predict, register_udf
from spark_strategy.errors import PlanError

ROWS = 1000
IDLE_S = 15.0


@pytest.fixture(scope="module", autouse=True)
def nothing_stays(spark: SparkSession) -> Iterator[None]:
    """Models that nobody uses any more leave memory and disk by themselves."""
    yield
    deadline = time.monotonic() + 45
    while (servers(), places()) != ([], []) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (servers(), places()) == ([], [])


def servers() -> list[int]:
    """Model servers of this session."""
    root = SparkFiles.getRootDirectory()
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "spark_strategy.worker.serve" in line and root in line:
            found.append(process.pid)
    return found


def unix_sockets() -> int:
    """Ends of connections to model servers, also of those that no server has accepted yet."""
    lines = Path("/proc/net/unix").read_text(encoding="ascii").splitlines()
    return sum(line.endswith("/socket") and "/proc/self/fd/" in line for line in lines)


def places() -> list[str]:
    """Their folders and locks."""
    root = Path(SparkFiles.getRootDirectory())
    return [str(path) for path in root.glob("spark_strategy_model-*")]


def table() -> pd.DataFrame:
    """An image, two numbers, a text."""
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, ROWS))
    image = random.normal(size=(ROWS, 64)).astype(np.float32)
    text = [f"t{k % 7}" for k in range(ROWS)]
    return pd.DataFrame({"id": range(ROWS), "a": a, "b": b, "image": list(image), "text": text})


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    """The same on Spark, in order, in three partitions of 400, 350 and 250 rows."""
    types = "id long, a double, b double, image array<float>, text string"
    rows = spark.createDataFrame(table(), types).coalesce(1).sortWithinPartitions("id")
    part = F.when(F.col("id") < 400, 0).when(F.col("id") < 750, 1).otherwise(2)
    spread = rows.repartitionByRange(3, part).sortWithinPartitions("id").persist()
    sizes = spread.groupBy(F.spark_partition_id()).count().sort("count").toPandas()["count"]
    assert list(sizes) == [250, 350, 400]
    return spread


def expected(predict_rows: Callable[[slice], Any]) -> Any:
    """What Keras gives, partition by partition: the same rows in the same batches."""
    return np.concatenate(
        [predict_rows(slice(*ends)) for ends in ((0, 400), (400, 750), (750, 1000))]
    )


def dense() -> keras.Model:
    """Two numbers to one."""
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(16, activation="tanh")
    return keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])


def convolution() -> keras.Model:
    """An 8 x 8 image to five probabilities; with normalisation and dropout, which predict knows."""
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def matrix_model() -> keras.Model:
    """Of two numbers. Tests share it and the next two, and so the servers that hold them."""
    return dense()


@pytest.fixture(scope="module")
def image_model() -> keras.Model:
    """Of images."""
    return convolution()


@pytest.fixture(scope="module")
def flat_model() -> keras.Model:
    """Of images whose pixels are a plain array."""
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(2)])


def collected(scored: DataFrame, name: str = "prediction") -> Any:
    """A column's values; all rows are there, in their order."""
    rows = scored.select("id", name).toArrow()
    assert rows["id"].to_pylist() == list(range(ROWS))
    return np.array(rows[name].to_pylist())


@pytest.mark.parametrize("batch_size", [32, 100, 1024])
def test_bits_equal_keras_on_the_same_batches(
    frame: DataFrame, matrix_model: keras.Model, image_model: keras.Model, batch_size: int
) -> None:
    """Of a matrix of two double columns and of images, whose shape the model tells."""
    rows = table()
    model, net = matrix_model, image_model
    scored = predict(model, frame, features=["a", "b"], batch_size=batch_size, idle_s=IDLE_S)
    scored = predict(
        net, scored, features="image", output="digit", batch_size=batch_size, idle_s=IDLE_S
    )
    assert scored.columns == [*frame.columns, "prediction", "digit"]
    assert scored.schema["prediction"].dataType.simpleString() == "float"
    assert scored.schema["digit"].dataType.simpleString() == "array<float>"
    matrix = rows[["a", "b"]].to_numpy(np.float32)
    images = np.stack(list(rows["image"])).reshape(-1, 8, 8, 1)

    def alone(one: keras.Model, x: Any) -> Any:
        return expected(lambda part: one.predict(x[part], batch_size=batch_size, verbose=0))

    got = scored.toArrow()
    assert got["id"].to_pylist() == list(range(ROWS))
    np.testing.assert_array_equal(got["prediction"], alone(model, matrix)[:, 0])
    np.testing.assert_array_equal(np.array(got["digit"].to_pylist(), "f4"), alone(net, images))


def test_one_process_holds_a_model_for_all_tasks_and_later_jobs(frame: DataFrame) -> None:
    """Also under another column's name, and after a kill with tasks that wait for it to answer."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(3)])
    others = set(servers())
    scored = predict(model, frame, features="image", idle_s=IDLE_S)
    scored.count()  # needs no prediction, so computes none
    assert set(servers()) <= others
    before = collected(scored)
    (server,) = set(servers()) - others
    again = frame.withColumnRenamed("image", "picture")
    np.testing.assert_array_equal(
        collected(predict(model, again, features="picture", idle_s=IDLE_S)), before
    )
    assert set(servers()) - others == {server}
    folder = Path(psutil.Process(server).cmdline()[-3])
    (folder / "temporary").mkdir()  # as a model may that makes one with tempfile
    os.kill(server, signal.SIGSTOP)
    connections = unix_sockets()
    with ThreadPoolExecutor(1) as pool:
        after = pool.submit(collected, scored)
        deadline = time.monotonic() + 60
        while unix_sockets() <= connections and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(server, signal.SIGKILL)
        np.testing.assert_array_equal(after.result(), before)
    assert server not in servers()
    assert not (folder / "temporary").exists()


def text_length(text: Any) -> Any:
    """A function of the user's own."""
    return tf.strings.length(text)


def two_of_each() -> keras.Model:
    """A text and an image in; a text's length, a matrix and a label out."""
    text = keras.Input((), name="text", dtype="string")
    image = keras.Input((64,), name="image")
    length = keras.layers.Lambda(text_length, output_shape=(), dtype="int32", name="length")
    square = keras.layers.Reshape((2, 3), name="square")(keras.layers.Dense(6)(image))
    return keras.Model({"text": text, "image": image}, {"length": length(text), "square": square})


def test_several_inputs_and_outputs_by_name(frame: DataFrame) -> None:
    """Outputs become columns, vectors or one struct; strings go in, arrays of arrays come out."""
    keras.utils.set_random_seed(3)
    model = two_of_each()
    features = {"text": "text", "image": "image"}
    scored = predict(
        model, frame, features=features, output={"square": "s", "length": "n"}, idle_s=IDLE_S
    )
    assert scored.schema["s"].dataType.simpleString() == "array<array<float>>"
    assert scored.schema["n"].dataType.simpleString() == "int"
    images = np.stack(list(table()["image"]))
    alone = expected(
        lambda part: model.predict_on_batch(
            {"text": tf.constant(table()["text"].tolist()[part]), "image": images[part]}
        )["square"]
    )
    np.testing.assert_array_equal(collected(scored, "s").astype("f4"), alone)
    assert set(collected(scored, "n")) == {2}
    whole = predict(model, frame, features=features, output="out", idle_s=IDLE_S)
    assert whole.schema["out"].dataType.simpleString() == (
        "struct<length:int,square:array<array<float>>>"
    )
    assert whole.select("out.length").distinct().count() == 1


def failing(x: Any) -> Any:
    """A model's own bug."""
    with tf.control_dependencies([tf.debugging.assert_less(x, 0.5)]):
        return tf.identity(x)


def test_models_come_from_files_signatures_and_functions(
    frame: DataFrame, matrix_model: keras.Model, image_model: keras.Model, tmp_path: Path
) -> None:
    """A ``.keras`` file, a SavedModel's signature, a function with weights: the same numbers."""
    model = matrix_model
    model.save(tmp_path / "m.keras")
    model.export(tmp_path / "exported", verbose=False)
    weights = [np.ones_like(one) for one in model.get_weights()]
    asked: dict[str, Any] = {"features": ["a", "b"], "idle_s": IDLE_S, "vectors": ["p"]}
    file = predict(str(tmp_path / "m.keras"), frame, output="p", features=["a", "b"], idle_s=IDLE_S)
    exported = predict(
        tmp_path / "exported",
        file,
        output="q",
        features=["a", "b"],
        signature="serve",
        idle_s=IDLE_S,
    )
    built = predict(
        dense, exported, output="p2", weights=weights, features=["a", "b"], idle_s=IDLE_S
    )
    matrix = table()[["a", "b"]].to_numpy(np.float32)
    got = built.select("id", "p", "q", "p2").toArrow()
    alone = expected(lambda part: model.predict(matrix[part], batch_size=1024, verbose=0))[:, 0]
    np.testing.assert_array_equal(got["p"], alone)
    np.testing.assert_allclose(got["q"], alone, rtol=1e-5, atol=1e-6)
    other = dense()
    other.set_weights(weights)
    alone = expected(lambda part: other.predict(matrix[part], batch_size=1024, verbose=0))[:, 0]
    np.testing.assert_array_equal(got["p2"], alone)
    net = predict(image_model, frame, output="p", **{**asked, "features": "image"})
    assert net.schema["p"].dataType.simpleString() == "vector"
    first = net.select("p").head().p
    np.testing.assert_allclose(sum(first.toArray()), 1, rtol=1e-5)


def test_a_model_is_found_on_every_filesystem_that_tensorflow_knows(
    spark: SparkSession, tmp_path: Path
) -> None:
    """A file, a SavedModel and weights by URI; a local path with its scheme; a plain one."""
    filesystem.register("modelstore", protocol="memory")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    frame = spark.createDataFrame([(1.0, 2.0), (3.0, 4.0)], "a double, b double")
    expected = model.predict(np.array([[1.0, 2.0], [3.0, 4.0]]), verbose=0).ravel().tolist()
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "w.weights.h5")
    model.export(tmp_path / "exported", verbose=False)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        target = f"modelstore://shelf/{path.relative_to(tmp_path)}"
        tf.io.gfile.makedirs(target.rpartition("/")[0])
        tf.io.gfile.copy(str(path), target)

    def build() -> keras.Model:
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    for root in ("modelstore://shelf", f"file://{tmp_path}", str(tmp_path)):
        for source, options in (
            (f"{root}/m.keras", {}),
            (f"{root}/exported", {}),
            (build, {"weights": f"{root}/w.weights.h5"}),
        ):
            scored = predict(source, frame, features=["a", "b"], idle_s=IDLE_S, **options).collect()
            values = [float(np.ravel(row.prediction)[0]) for row in scored]
            assert values == pytest.approx(expected), root
    for path, text in (
        ("modelstore://shelf/no.keras", "There is no modelstore://shelf/no.keras"),
        ("nobody://shelf/m.keras", "nobody://shelf/m.keras cannot be read: .*not implemented"),
    ):
        with pytest.raises(PlanError, match=text):
            predict(path, frame, features=["a", "b"])


def test_rows_that_are_no_tensors_raise_or_give_null(
    frame: DataFrame, flat_model: keras.Model
) -> None:
    """With the column and how many rows; the others of their batch are scored all the same."""
    wrong = "if(id % 10 = 3, null, if(id % 10 = 4, array(1f), image)) as image"
    bad = frame.selectExpr("id", wrong, "if(id = 7, null, a) as a")
    model = flat_model
    # Of 40, 35 or 25, in whichever partition comes first.
    first = r"Column 'image' .*\(and (39|34|24) more\) of a batch"
    with pytest.raises(PythonException, match=first):
        predict(model, bad, features="image", idle_s=IDLE_S).collect()
    scored = predict(model, bad, features="image", on_error="null", batch_size=50, idle_s=IDLE_S)
    rows = scored.select("id", "prediction").toArrow()
    nulls = [
        k
        for k, one in zip(rows["id"].to_pylist(), rows["prediction"].to_pylist(), strict=True)
        if not one
    ]
    assert nulls == [k for k in range(ROWS) if k % 10 in (3, 4)]
    assert rows["id"].to_pylist() == list(range(ROWS))
    filled = predict(
        model,
        bad.where("id % 10 != 4"),
        features="image",
        columns={"image": Column(fill=0)},
        idle_s=IDLE_S,
    )
    assert filled.where("prediction is null").count() == 0


def test_a_model_that_fails_says_so(frame: DataFrame) -> None:
    """With the model's own words; whatever comes next works."""
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(failing, output_shape=(2,))(inputs)
    model = keras.Model(inputs, outputs)
    with pytest.raises(PythonException, match="The model failed on a batch") as raised:
        predict(model, frame, features=["a", "b"], idle_s=IDLE_S).collect()
    assert "WorkerError" in str(raised.value)


class Doubling(keras.layers.Layer):
    """A layer of the user's own, which no executor has installed."""

    def call(self, x: Any) -> Any:
        """Twice the input."""
        return 2 * x


def test_layers_of_ones_own_travel_with_the_model(frame: DataFrame) -> None:
    """By value, as everything that is not installed."""
    model = keras.Sequential([keras.Input((2,)), Doubling()])
    scored = predict(model, frame, features=["a", "b"], idle_s=IDLE_S)
    matrix = table()[["a", "b"]].to_numpy(np.float32)
    np.testing.assert_array_equal(collected(scored).astype("f4"), 2 * matrix)


def test_models_of_tf_keras_keep_their_bits(frame: DataFrame, tmp_path: Path) -> None:
    """Also once they were saved, as a stage, and loaded again: by tf_keras, not by Keras 3."""
    tf_keras.utils.set_random_seed(4)
    hidden = tf_keras.layers.Dense(16, activation="tanh")
    model = tf_keras.Sequential([tf_keras.Input((2,)), hidden, tf_keras.layers.Dense(1)])
    stage = KerasModel(model).setFeaturesCol(["a", "b"]).setIdleTimeout(IDLE_S)
    stage.save(f"file://{tmp_path}/stage")
    loaded = KerasModel.load(f"file://{tmp_path}/stage")
    assert isinstance(loaded.model, tf_keras.Model)
    matrix = table()[["a", "b"]].to_numpy(np.float32)
    alone = expected(lambda part: model.predict(matrix[part], batch_size=1024, verbose=0))[:, 0]
    np.testing.assert_array_equal(collected(loaded.transform(frame)), alone)


def test_empty_frames_and_partitions_give_what_they_should(
    frame: DataFrame, flat_model: keras.Model
) -> None:
    """No rows with the right schema, without a model in memory; and all rows otherwise."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(2, name="empty")])
    others = set(servers())
    scored = predict(model, frame.where("id < 0"), features="image", idle_s=IDLE_S)
    assert scored.collect() == []
    assert scored.columns == [*frame.columns, "prediction"]
    assert set(servers()) <= others
    parts = frame.repartition(20).where("id < 3")
    few = predict(flat_model, parts, features="image", idle_s=IDLE_S)
    assert sorted(row.id for row in few.collect()) == [0, 1, 2]


def test_streams_are_scored(
    spark: SparkSession, frame: DataFrame, flat_model: keras.Model, tmp_path: Path
) -> None:
    """With the shapes that the model tells, since a stream cannot be looked at."""
    frame.select("id", "image").write.parquet(str(tmp_path / "in"))
    rows = spark.readStream.schema("id long, image array<float>").parquet(str(tmp_path / "in"))
    scored = predict(flat_model, rows, features="image", idle_s=IDLE_S)
    query = scored.writeStream.format("memory").queryName("scored").trigger(availableNow=True)
    started = query.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
    assert started.awaitTermination(90)
    found = spark.table("scored").toPandas().sort_values("id")
    images = np.stack(list(table()["image"]))
    np.testing.assert_allclose(
        np.stack(list(found["prediction"])),
        flat_model.predict(images, verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_sql_function_stands_wherever_a_pandas_udf_may(spark: SparkSession) -> None:
    """In aggregates, filters, HAVING, lateral and other joins, windows; a NULL is a null."""
    layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((2,)), layer])
    register_udf(spark, "score", model, idle_s=IDLE_S, on_error="null")
    rows = "SELECT CAST(id AS DOUBLE) AS a, id % 3 AS g FROM range(9)"
    spark.sql(rows).createOrReplaceTempView("numbers")
    score = "score(a, 1)[0]"
    for query, expected in (
        (f"SELECT avg({score}) FROM numbers", [(4.0,)]),
        (f"SELECT count(*) FILTER (WHERE {score} > 3) FROM numbers", [(5,)]),
        (f"SELECT g FROM numbers GROUP BY g HAVING max({score}) > 7", [(2,)]),
        (f"SELECT s FROM numbers, LATERAL (SELECT {score} AS s) WHERE a = 8", [(8.0,)]),
        (f"SELECT a FROM numbers WHERE {score} > 7", [(8.0,)]),
        (f"SELECT a FROM numbers ORDER BY -{score} LIMIT 1", [(8.0,)]),
        (f"SELECT DISTINCT sum({score}) OVER () FROM numbers", [(36.0,)]),
        ("SELECT score(a, NULL) FROM numbers WHERE a < 2", [(None,), (None,)]),
    ):
        assert [tuple(row) for row in spark.sql(query).collect()] == expected, query
    with pytest.raises(PythonException) as raised:
        spark.sql("SELECT score(a, 1, 2) FROM numbers").collect()
    said = str(raised.value).splitlines()
    assert "Traceback" not in str(raised.value)
    assert any("PlanError" in line for line in said[:3])


def test_sql_calls_a_model(
    spark: SparkSession, frame: DataFrame, matrix_model: keras.Model, image_model: keras.Model
) -> None:
    """With numbers as a matrix, with an array, with constants; wrong arguments are named."""
    model, net = matrix_model, image_model
    register_udf(spark, "score", model, idle_s=IDLE_S)
    register_udf(spark, "digit", net, idle_s=IDLE_S)
    frame.createOrReplaceTempView("scored_by_sql")
    got = spark.sql("select id, score(a, b) as s, digit(image) as d from scored_by_sql").toArrow()
    matrix = table()[["a", "b"]].to_numpy(np.float32)
    images = np.stack(list(table()["image"])).reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(
        got["s"],
        expected(lambda part: model.predict(matrix[part], batch_size=1024, verbose=0))[:, 0],
    )
    np.testing.assert_array_equal(
        np.array(got["d"].to_pylist(), "f4"),
        expected(lambda part: net.predict(images[part], batch_size=1024, verbose=0)),
    )
    one = spark.sql("select score(1.5D, 2) as s").head().s
    assert one == model.predict(np.array([[1.5, 2]], "f4"), verbose=0)[0, 0]
    with pytest.raises(PythonException, match="Argument 1 is struct"):
        spark.sql("select digit(named_struct('x', 1)) from scored_by_sql").collect()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features": "nope"}, "no column 'nope'; the columns are id, a, b"),
        ({"features": {"first": "a"}}, "names the inputs first, and the model's are"),
        ({"features": "text"}, "does not take TensorSpec.*string"),
        ({"batch_size": 0}, "batch_size is a whole number of at least 1, found 0"),
        ({"on_error": "skip"}, '"raise" or "null", found \'skip\''),
        ({"idle_s": 0}, "idle_s is a number of seconds above 0, found 0"),
        ({"max_models": 0}, "max_models is a whole number of at least 1, found 0"),
        ({"max_bytes": 0.5}, "max_bytes is a number of bytes above 0, or None; found 0.5"),
        ({"output": "a"}, "has a column 'a' already"),
        ({"output": {"nope": "x"}}, "output names 'nope', and the model's outputs are"),
        ({"vectors": ["a"]}, "vectors names 'a'"),
        ({"weights": []}, "weights go with a function"),
        ({"signature": "serve"}, "is for a SavedModel's folder"),
        ({"model": "/nowhere.keras"}, "no file '/nowhere.keras'"),
        ({"model": 7}, "model is a Keras model, the path .* found 7"),
        ({"model": lambda: 7}, "returned 7, which is no Keras model"),
        ({"model": two_of_each}, "Say which columns feed each"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    frame: DataFrame, matrix_model: keras.Model, change: dict[str, Any], text: str
) -> None:
    """With what was found, and what there is instead."""
    asked: dict[str, Any] = {"model": matrix_model, "features": ["a", "b"], **change}
    with pytest.raises(PlanError, match=text):
        predict(asked.pop("model"), frame, **asked)


def test_a_session_that_stops_takes_its_models_along(tmp_path: Path) -> None:
    """No process and no file stays, however long the model was to stay in memory."""
    program = """
        import os, sys, time, glob
        os.environ["PYSPARK_PYTHON"] = sys.executable
        import psutil, tf_keras  # whose autograph writes files
        from pyspark import SparkFiles
        from pyspark.sql import SparkSession
        from spark_strategy import predict
        spark = SparkSession.builder.master("local[2]").getOrCreate()
        model = tf_keras.Sequential([tf_keras.Input((1,)), tf_keras.layers.Dense(1)])
        predict(model, spark.range(9).selectExpr("float(id) as x"), features="x").collect()
        root = SparkFiles.getRootDirectory()
        def left():
            found = psutil.process_iter(["cmdline"])
            lines = [" ".join(one.info["cmdline"] or []) for one in found]
            return [one for one in lines if root in one and "serve" in one] + glob.glob(root + "/*")
        assert len(left()) >= 2, left()
        spark.stop()
        deadline = time.monotonic() + 20
        while left() and time.monotonic() < deadline:
            time.sleep(0.1)
        print("left:", left())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=150,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "left: []"
    assert list(tmp_path.iterdir()) == []


def test_columns_may_be_called_anything(spark: SparkSession) -> None:
    """Also twice, where nobody asks for them; all of them stay, and the old ones stay valid."""
    rows = spark.range(6).selectExpr("id", "double(id) `i``d`", "double(-id) `a.b`", "id + 1 twice")
    joined = rows.withColumns({"x": F.col("id"), "*": F.lit(1)}).toDF(*rows.columns, "twice", "*")
    inputs = keras.Input((2,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("k", "l")}
    model = keras.Model(inputs, outputs)
    features = ["i`d", "a.b"]
    scored = predict(model, joined, features=features, output={"k": "k.1", "l": "l"}, idle_s=IDLE_S)
    assert scored.columns == [*joined.columns, "k.1", "l"]
    found = scored.where(joined["id"] >= 0).toDF(*"abcdefgh").sort("a").collect()
    given = np.array([(k, -k) for k in range(6)], np.float32)
    alone = model.predict(given, verbose=0)
    np.testing.assert_allclose([row.g for row in found], alone["k"][:, 0], rtol=1e-5)
    np.testing.assert_allclose([row.h for row in found], alone["l"][:, 0], rtol=1e-5)
    # Spark takes these two for one name.
    cased = joined.drop("twice").toDF("x", "X", "a.b", "*")
    both = predict(model, cased, features=["X", "a.b"], output="p", idle_s=IDLE_S)
    assert both.columns == ["x", "X", "a.b", "*", "p"]
    assert both.toDF(*"abcde").count() == 6


def test_a_null_vector_is_a_null_like_any_other(spark: SparkSession) -> None:
    """It is filled, gives a null, or is a DataError that names the column."""
    kinds = t.StructType([t.StructField("v", VectorUDT()), t.StructField("id", t.LongType())])
    vectors = [Vectors.dense(1, 2), None, Vectors.sparse(2, {0: 3.0})]
    table = spark.createDataFrame(list(zip(vectors, range(3), strict=True)), kinds).coalesce(1)
    model = dense()
    alone = model.predict(np.array([(1, 2), (0, 0), (3, 0)], np.float32), verbose=0)[:, 0]

    def scored(**options: Any) -> list[Any]:
        return [
            row.p
            for row in predict(
                model, table, features="v", output="p", idle_s=IDLE_S, **options
            ).collect()
        ]

    first, second, third = scored(on_error="null")
    assert second is None
    np.testing.assert_allclose([first, third], alone[[0, 2]], rtol=1e-5)
    filled = scored(columns={"v": Column(fill=0)})
    np.testing.assert_allclose(filled, alone, rtol=1e-5)
    with pytest.raises(PythonException, match=r"DataError: Column 'v' \(vector\) is null"):
        scored()
