"""Ranks that read files themselves: every record once, in the same steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, errors, get_context

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def write(path: Path, numbers: range, compression: str = "") -> None:
    """A TFRecord file of Examples with a feature x."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for number in numbers:
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
            example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
            writer.write(example.SerializeToString())


def read(folders: list[str]) -> Any:
    """Two epochs of batches of each folder, and the files that this rank has."""
    context = get_context()
    features = {"x": tf.io.FixedLenFeature([], tf.int64)}
    found = {}
    for folder in folders:
        rows = context.tfrecords(folder, batch_size=16, features=features, shuffle=50, seed=1)
        epochs = [[batch["x"].numpy().tolist() for batch in rows] for _ in range(2)]
        parts = [(Path(part.path).name, part.part, part.parts) for part in context.files(folder)]
        found[folder] = epochs, parts, int(rows.cardinality())
    return found


def fit(folder: str) -> Any:
    """A Keras model trained on files; every rank's steps."""
    import keras

    features = {"x": tf.io.FixedLenFeature([], tf.int64)}
    rows = get_context().tfrecords(folder, batch_size=16, features=features)
    rows = rows.map(lambda one: (tf.cast(one["x"], tf.float32)[:, None] / 100, one["x"] * 3))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(rows, epochs=2, verbose=0)
    return int(model.optimizer.iterations.numpy())


def both(many: str, one: str) -> Any:
    """All of it in one run."""
    return read([many, one]), fit(many)


def test_every_record_is_read_once_by_one_rank(spark: SparkSession, tmp_path: Path) -> None:
    """Uneven files, compressed ones, hidden and empty ones; one file alone; two epochs; fit."""
    many, one = tmp_path / "many", tmp_path / "one"
    many.mkdir()
    one.mkdir()
    write(many / "part-0", range(100))
    write(many / "part-1", range(100, 117))
    write(many / "part-2.gz", range(117, 150), "GZIP")
    write(many / "part-3", range(0))
    write(many / "_SUCCESS", range(0))
    write(one / "part-0", range(150))
    values = Launcher(MultiWorker(2), spark=spark, logs=None).run(both, str(many), str(one)).values

    for folder in (str(many), str(one)):
        for epoch in range(2):
            batches = [value[0][folder][0][epoch] for value in values]
            assert [len(rank) for rank in batches] == [10, 10]
            steps = [len(a) + len(b) for a, b in zip(*batches, strict=True)]
            assert steps == [16] * 9 + [6]
            assert sorted(x for rank in batches for batch in rank for x in batch) == [*range(150)]
            assert batches[0] != [sorted(batch) for batch in batches[0]]
        assert [value[0][folder][2] for value in values] == [10, 10]
    assert [value[0][str(one)][1] for value in values] == [[("part-0", 0, 2)], [("part-0", 1, 2)]]
    assert [value[1] for value in values] == [20, 20]


def test_a_pattern_that_matches_nothing_is_named(spark: SparkSession) -> None:
    """With the place that was looked at."""
    launcher = Launcher(MultiWorker(1), spark=spark, logs=None)

    def nothing() -> None:
        get_context().files("no/such-*")

    with pytest.raises(errors.PlanError, match=r"No file matches /.*/no/such-\*"):
        launcher.run(nothing)
