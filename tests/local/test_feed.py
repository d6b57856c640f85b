"""DataFrames reach the train function as tensors: all rows, once, as they were."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_strategy import Cache, Launcher, MultiWorker, distribute, get_context
from spark_strategy.errors import CapacityError, DataError, PlanError, WorkerError

pytestmark = pytest.mark.usefixtures("leaves_nothing")

LAUNCHER = Launcher(MultiWorker(2), logs=None, timeout_s=120)


def placed(spark: SparkSession, *rows: int) -> DataFrame:
    """One partition per number, with so many rows; no shuffle is needed to feed it."""
    numbers = np.cumsum([0, *rows]).tolist()
    data = spark.sparkContext.parallelize(list(itertools.pairwise(numbers)), len(rows))
    return spark.createDataFrame(
        data.flatMap(lambda ends: [(id_, float(id_)) for id_ in range(*ends)]), "id long, x double"
    )


def epochs(count: int, **options: Any) -> list[list[list[int]]]:
    """The ids of each batch of each epoch."""
    batches = get_context().dataset(features="id", **options)
    return [[batch.numpy().tolist() for batch in batches] for _ in range(count)]


@pytest.mark.classic
def test_uneven_shards_take_the_same_steps_and_every_row_once(spark: SparkSession) -> None:
    """100 against 13 rows: ceil(113 / 16) steps an epoch on both, in every epoch."""
    result = LAUNCHER.on(placed(spark, 100, 13)).run(epochs, 2, batch_size=16)
    for epoch in range(2):
        first, second = (rank[epoch] for rank in result.values)
        assert len(first) == len(second) == math.ceil(113 / 16)
        steps = [a + b for a, b in zip(first, second, strict=True)]
        assert [len(step) for step in steps] == [16] * 7 + [1]
        assert sorted(id_ for step in steps for id_ in step) == list(range(113))
    assert second[-1] == []
    assert [stats.rows for stats in result.feed] == [100, 13]
    assert result.rows == 113


@pytest.mark.classic
def test_a_rank_without_rows_takes_part(spark: SparkSession) -> None:
    """Its batches are empty; and so are all of an empty DataFrame's, which has no step."""
    result = LAUNCHER.on(placed(spark, 0, 20)).run(epochs, 1, batch_size=8)
    assert result.values[0] == [[[], [], []]]
    assert [len(batch) for batch in result.values[1][0]] == [8, 8, 4]


@pytest.mark.classic
def test_a_shuffle_permutes_anew_each_epoch_and_repeats_with_its_seed(spark: SparkSession) -> None:
    """Within the window and over the blocks."""
    fed = LAUNCHER.on(placed(spark, 50, 50))
    first = fed.run(epochs, 3, batch_size=20, shuffle=30, seed=7).values
    again = fed.run(epochs, 3, batch_size=20, shuffle=30, seed=7).values
    orders = [[id_ for batch in epoch for id_ in batch] for epoch in first[0]]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(50))
    assert first == again


@distribute(MultiWorker(2), logs=None, timeout_s=120)
def steps(*asked: dict[str, Any]) -> list[list[int]]:
    """The rows of each of the first ten batches, for each of the options."""
    datasets = [get_context().dataset(batch_size=10, **options).take(10) for options in asked]
    return [[len(batch["id"]) for batch in batches] for batches in datasets]


def test_several_dataframes_and_their_options(spark: SparkSession) -> None:
    """By name; drop_remainder and repeat keep their meanings; 25 and 12 rows."""
    train = steps.on({"train": spark.range(25), "validation": spark.range(12)})
    ranks = train.run({"name": "validation"}, {"drop_remainder": True}, {"repeat": True}).values
    both = [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(*ranks, strict=True)]
    assert both == [[10, 2], [10, 10], [10, 10, 5] * 3 + [10]]


def elements(name: str) -> dict[str, Any]:
    """Elements of several kinds of selection, of one table."""
    context = get_context()
    asked: dict[str, Any] = {
        "all": {},
        "matrix": {"features": ["a", "b", "v"], "label": "s"},
        "inputs": {"features": {"one": "a", "two": ["b", "v"]}, "label": "s", "weight": "b"},
    }
    found = {}
    for kind, columns in asked.items():
        dataset = context.dataset(name, batch_size=4, **columns)
        found[kind] = [_plain(element) for element in dataset.take(1)]
    return found


def _plain(element: Any) -> Any:
    if isinstance(element, dict):
        return {name: _plain(one) for name, one in element.items()}
    if isinstance(element, tuple):
        return tuple(map(_plain, element))
    return element.numpy().tolist()


@pytest.mark.classic
def test_other_tables_than_dataframes(spark: SparkSession) -> None:
    """And features as a matrix, as named inputs, or as all columns."""
    columns = {"a": [1.5, 2.5], "b": [1, 2], "v": [[3.0, 4.0], [5.0, 6.0]], "s": ["x", "y"]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    tables = {
        "pandas": pd.DataFrame(columns),
        "arrow": pa.table(columns),
        "rdd": spark.sparkContext.parallelize(rows).map(lambda row: _row(**row)),
    }
    launcher = Launcher(MultiWorker(1), spark=spark, logs=None, timeout_s=120)
    names = list(tables)
    found = launcher.on(tables).run(lambda: {name: elements(name) for name in names}).value
    for name in names:
        _check_elements(found[name])


def _check_elements(found: dict[str, Any]) -> None:
    # Spark gives the rows in no particular order.
    order = slice(None) if found["all"][0]["a"] == [1.5, 2.5] else slice(None, None, -1)

    def ordered(values: list[Any]) -> list[Any]:
        return values[order]

    everything = found["all"][0]
    assert {name: ordered(values) for name, values in everything.items()} == {
        "a": [1.5, 2.5],
        "b": [1, 2],
        "v": [[3.0, 4.0], [5.0, 6.0]],
        "s": [b"x", b"y"],
    }
    x, y = found["matrix"][0]
    assert ordered(x) == [[1.5, 1.0, 3.0, 4.0], [2.5, 2.0, 5.0, 6.0]]
    assert ordered(y) == [b"x", b"y"]
    x, y, weight = found["inputs"][0]
    assert ordered(x["one"]) == [1.5, 2.5]
    assert ordered(x["two"]) == [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]]
    assert ordered(weight) == [1, 2]


def _row(**columns: Any) -> Any:
    from pyspark.sql import Row

    return Row(**columns)


def test_the_element_spec_is_known_before_launch(spark: SparkSession) -> None:
    """By column; of several DataFrames by name."""
    import tensorflow as tf

    frame = spark.sql("select 1 as a, array(1.5D, 2.5D) as v")
    spec = steps.on(frame).element_spec
    assert spec == {
        "a": tf.TensorSpec([None], tf.int32, spec["a"].name),
        "v": tf.TensorSpec([None, 2], tf.float64, spec["v"].name),
    }
    assert set(steps.on({"x": frame, "y": frame}).element_spec) == {"x", "y"}
    with pytest.raises(PlanError, match=r"train\.on\(df\)"):
        _ = steps.element_spec


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "no DataFrame in the dictionary"),
        ({"a b": 1}, "an identifier such as 'train', found 'a b'"),
        (7, "'train' is a builtins.int"),
    ],
)
def test_what_is_no_dataframe_is_refused(spark: SparkSession, data: Any, text: str) -> None:
    """Before anything is launched."""
    with pytest.raises(PlanError, match=text):
        LAUNCHER.on(data)


def test_a_column_that_cannot_be_a_tensor_is_refused(spark: SparkSession) -> None:
    """With its name and its type."""
    with pytest.raises(PlanError, match=r"m.*map"):
        LAUNCHER.on(spark.sql("select map('a', 1) as m"))


REFUSED = [
    ({"features": "nope"}, "no column 'nope'; the columns are id"),
    ({"name": "validation"}, "no DataFrame 'validation'; the run is fed with 'train'"),
    ({"batch_size": 1}, "at least 2 here"),
    ({"shuffle": -1}, "shuffle is a window"),
    ({"weight": "id"}, "needs a label"),
    ({"features": []}, "empty list of columns"),
]


def test_a_dataset_that_makes_no_sense_is_refused(spark: SparkSession) -> None:
    """In the train function, with what there is instead."""

    def answers() -> list[str]:
        found = []
        for options, _ in REFUSED:
            try:
                get_context().dataset(**{"batch_size": 4, **options})
            except PlanError as error:
                found.append(str(error))
        return found

    found = LAUNCHER.on(spark.range(10)).run(answers).value
    assert len(found) == len(REFUSED)
    for text, (_, expected) in zip(found, REFUSED, strict=True):
        assert expected in text


def _ask(options: dict[str, Any]) -> None:
    get_context().dataset(**options)


def test_without_a_dataframe_the_way_to_feed_is_said(spark: SparkSession) -> None:
    """Instead of an AttributeError, and by the class that the rank raised."""
    with pytest.raises(PlanError, match=r"train\.on\(df\)"):
        Launcher(MultiWorker(1), logs=None).run(_ask, {"batch_size": 4})


def test_a_null_is_a_data_error_that_names_the_column(spark: SparkSession) -> None:
    """And the first cause, although other ranks are stopped."""
    frame = spark.range(100).selectExpr("id", "if(id = 77, null, id) as x")
    with pytest.raises(DataError, match="Column 'x'"):
        LAUNCHER.on(frame).run(epochs, 1, batch_size=16)


def test_what_spark_raises_upstream_is_named(spark: SparkSession) -> None:
    """A function of the user's own fails while it computes the rows."""

    def fails(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.column(0)[0].as_py() >= 0:
                raise ZeroDivisionError("in my own mapInArrow")
            yield batch

    frame = spark.range(100).mapInArrow(fails, "id long")
    with pytest.raises(WorkerError, match="ZeroDivisionError: in my own mapInArrow"):
        LAUNCHER.on(frame).run(epochs, 1, batch_size=16)


def test_no_room_is_an_error_that_says_how_many_rows_fitted(spark: SparkSession) -> None:
    """Before the disk is full."""
    fed = LAUNCHER.on(spark.range(200_000), cache=Cache(max_bytes=100_000))
    with pytest.raises(CapacityError, match=r"Cache\(max_bytes=100000\) is used up.*rows: "):
        fed.run(epochs, 1, batch_size=1000)


def test_rows_can_be_kept_in_memory(spark: SparkSession) -> None:
    """And are gone afterwards."""

    def kept() -> set[Path]:
        return set(Path("/dev/shm").glob("spark_strategy-*"))

    others = kept()
    result = LAUNCHER.on(spark.range(20), cache=Cache(memory=True)).run(epochs, 2, batch_size=10)
    assert sorted(id_ for rank in result.values for batch in rank[1] for id_ in batch) == [
        *range(20)
    ]
    deadline = time.monotonic() + 30
    while kept() - others and time.monotonic() < deadline:
        time.sleep(0.1)  # other runs on this machine
    assert not kept() - others


def test_a_function_may_leave_rows_unread(spark: SparkSession) -> None:
    """Spark computes the rest, and the run goes well."""
    result = LAUNCHER.on(spark.range(0, 5_000_000, 1, 2)).run(_few)
    assert result.values == (50, 50)


def _few() -> int:
    return len(next(iter(get_context().dataset(batch_size=100)))["id"])


def test_a_rank_may_read_on_when_another_has_finished(spark: SparkSession) -> None:
    """Whose rows are still counted, although it does not want them."""

    def train() -> int:
        batches = get_context().dataset(batch_size=1000, features="id")
        return sum(len(batch) for batch in batches) if get_context().rank else 0

    result = LAUNCHER.on(spark.range(0, 2_000_000, 1, 2)).run(train)
    assert result.values == (0, 1_000_000)


def test_a_rank_that_is_killed_leaves_no_rows_behind(spark: SparkSession) -> None:
    """While Spark still sends them."""

    def train() -> None:
        next(iter(get_context().dataset(batch_size=100)))
        if get_context().rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    with pytest.raises(WorkerError, match=r"worker:1 .* was killed by SIGKILL"):
        LAUNCHER.on(spark.range(0, 20_000_000, 1, 2)).run(train)


def test_waits_are_in_the_summary(spark: SparkSession, tmp_path: Path) -> None:
    """Who is slow is said for each rank."""
    begun = str(tmp_path / "begun")

    def slow(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import time
        from pathlib import Path

        for batch in batches:
            began = time.monotonic()
            while not Path(begun).exists():
                time.sleep(0.1)
            # Spark is what is waited for, however long TensorFlow took to start.
            time.sleep(2 + 0.5 * (time.monotonic() - began))
            yield batch

    def train() -> None:
        from pathlib import Path

        Path(begun).touch()
        epochs(1, batch_size=10)

    result = LAUNCHER.on(spark.range(0, 40, 1, 2).mapInArrow(slow, "id long")).run(train)
    assert all(stats.spark_wait_s > 1.5 for stats in result.feed)
    assert all(stats.train_wait_s > 0.5 for stats in result.feed)
    assert "rank 1 was fed 20 rows" in result.summary()
    assert "Spark is the slow side" in result.summary()
