"""What is sent to the executors is there once, and leaves every disk when nobody needs it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from spark_strategy import Launcher, MultiWorker
from spark_strategy.spark.broadcasts import Parcel, for_one_run, shared

SIZE = 3_000_000
WAIT_S = 60.0


class Owner:
    """What a user holds."""


def files(spark: SparkSession) -> list[str]:
    """The driver's files of broadcasts of about this size."""
    folder: str = spark.sparkContext._temp_dir
    found = Path(folder).iterdir()
    return sorted(str(one) for one in found if SIZE <= one.stat().st_size < SIZE + 9999)


def wait_until(spark: SparkSession, holds: Callable[[], bool]) -> None:
    """With both sides' garbage collected again and again."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        gc.collect()
        spark.sparkContext._jvm.System.gc()  # type: ignore[union-attr]
        time.sleep(0.1)


def measured(spark: SparkSession, parcel: Parcel) -> DataFrame:
    """A row with what a task got."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"size": [len(parcel())], "path": [parcel.path()]})

    return spark.range(1, numPartitions=1).mapInArrow(count, "size long, path string")


def content(name: str) -> Callable[[], bytes]:
    """Different content for each name."""
    return lambda: name.encode().ljust(SIZE)


def never() -> bytes:
    """Content that must not be asked for."""
    raise AssertionError("sent again")


def test_the_same_content_is_sent_once_and_goes_with_its_owner(spark: SparkSession) -> None:
    """While its owner is there nothing is sent again, also when no DataFrame is left."""
    owner, before = Owner(), files(spark)
    first = measured(spark, shared(spark.sparkContext, "a", content("a"), owner)).head()
    assert first is not None
    assert first.size == SIZE
    assert len(files(spark)) == len(before) + 1
    gc.collect()
    spark.sparkContext._jvm.System.gc()  # type: ignore[union-attr]
    again = measured(spark, shared(spark.sparkContext, "a", never, owner)).head()
    assert again == first
    assert Path(first.path).exists()
    del owner
    wait_until(spark, lambda: files(spark) == before)
    # What the model servers look at.
    assert not Path(first.path).exists()


def test_a_derived_dataframe_keeps_it(spark: SparkSession) -> None:
    """Spark's plans count, not the Python objects that were there first."""
    owner, before = Owner(), files(spark)
    made = measured(spark, shared(spark.sparkContext, "b", content("b"), owner))
    derived = made.selectExpr("size + 1 as more")
    del owner, made
    for _ in range(3):
        gc.collect()
        spark.sparkContext._jvm.System.gc()  # type: ignore[union-attr]
    assert [row.more for row in derived.collect()] == [SIZE + 1]
    del derived
    wait_until(spark, lambda: files(spark) == before)


def test_an_owner_keeps_only_what_was_made_of_it_last(spark: SparkSession) -> None:
    """A model that is trained on has other weights, so other content, at each call."""
    owner, before = Owner(), files(spark)
    for name in ("c", "d", "e"):
        assert measured(spark, shared(spark.sparkContext, name, content(name), owner)).count() == 1
    wait_until(spark, lambda: len(files(spark)) == len(before) + 1)
    del owner
    wait_until(spark, lambda: files(spark) == before)


def test_what_is_for_one_run_goes_with_it(spark: SparkSession) -> None:
    """Whether it ends well or not."""
    before = files(spark)
    with for_one_run(spark.sparkContext, content("f")()) as parcel:
        row = measured(spark, parcel).head()
        assert row is not None
        assert row.size == SIZE
        assert len(files(spark)) == len(before) + 1
    assert files(spark) == before


def test_a_run_with_a_large_argument_leaves_no_file(spark: SparkSession) -> None:
    """PySpark would broadcast the command, and keep it until the session ends."""
    folder = Path(spark.sparkContext._temp_dir)
    before = set(folder.iterdir())

    def length(data: Any) -> int:
        return len(data)

    assert Launcher(MultiWorker(1), spark=spark, logs=None).run(length, bytes(SIZE)).value == SIZE
    assert set(folder.iterdir()) <= before
