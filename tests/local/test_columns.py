"""Every type of column, from a real Spark's Arrow batches to tensors."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import tensorflow as tf
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import DenseVector, SparseVector, VectorUDT
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import types as t

from spark_strategy.data.columns import Column, ColumnSpec, specs_of, with_lengths
from spark_strategy.worker import blocks

NEW_YORK = dt.timezone(dt.timedelta(hours=-5))
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

SCHEMA = t.StructType(
    [
        t.StructField("boolean", t.BooleanType()),
        t.StructField("byte", t.ByteType()),
        t.StructField("short", t.ShortType()),
        t.StructField("integer", t.IntegerType()),
        t.StructField("long", t.LongType()),
        t.StructField("float", t.FloatType()),
        t.StructField("double", t.DoubleType()),
        t.StructField("decimal", t.DecimalType(20, 3)),
        t.StructField("string", t.StringType()),
        t.StructField("collated", t.StringType("UNICODE_CI")),
        t.StructField("binary", t.BinaryType()),
        t.StructField("date", t.DateType()),
        t.StructField("timestamp", t.TimestampType()),
        t.StructField("clock", t.TimestampNTZType()),
        t.StructField("vector", VectorUDT()),
        t.StructField("image", t.ArrayType(t.FloatType())),
        t.StructField("padded", t.ArrayType(t.ShortType())),
        t.StructField("ragged", t.ArrayType(t.DecimalType(5, 1))),
        t.StructField("words", t.ArrayType(t.StringType())),
        t.StructField("matrix", t.ArrayType(t.ArrayType(t.DoubleType()))),
        t.StructField("points", t.ArrayType(t.ArrayType(t.LongType()))),
        t.StructField(
            "struct",
            t.StructType(
                [
                    t.StructField("a", t.IntegerType()),
                    t.StructField("b", t.StructType([t.StructField("c", t.StringType())])),
                ]
            ),
        ),
    ]
)

DECLARED = {
    "image": Column(shape=(2, 1), dtype="float64"),
    "padded": Column(shape=(3,), pad=-1),
    "ragged": Column(ragged=True),
    "words": Column(ragged=True, fill="?"),
    "matrix": Column(shape=(2, 1)),
    "points": Column(ragged=True, shape=(None, 2)),
    "struct.a": Column(fill=-1, dtype="float32"),
    "struct.b.c": Column(fill="none"),
}


def frame(spark: SparkSession) -> DataFrame:
    """Three rows of every type; vectors are still vectors."""

    def row(n: int) -> tuple[Any, ...]:
        return (
            n == 1,
            n - 128,
            -n,
            n << 20,
            n << 40,
            n / 4,
            n / 3,
            Decimal(n) / 8,
            f"s{n}",
            "Ab" * n,
            b"\0\xff" * n,
            dt.date(1969, 12, 30 + n) if n < 2 else dt.date(2024, 2, 29),
            dt.datetime(1969, 12, 31, 19, 0, n, n, tzinfo=NEW_YORK),
            dt.datetime(2024, 7, 1, 12, 0, n, n),  # noqa: DTZ001 - a clock without a zone
            SparseVector(3, {n: 1.5}) if n else DenseVector([1, 2, 3]),
            [n / 2, n / 1],
            list(range(n + 1)),
            [Decimal(n) / 2] * n,
            ["w" * n, None] if n else None,
            [[n / 3], [n / 1]],
            [[n, k] for k in range(n)],
            Row(a=n, b=Row(c=None) if n == 1 else Row(c="x")) if n else None,
        )

    return spark.createDataFrame([row(n) for n in range(3)], SCHEMA)


def micros(value: dt.datetime) -> int:
    """Since the epoch; Spark gives timestamps in Python's local time, without saying so."""
    return (value.astimezone(dt.UTC) - EPOCH) // dt.timedelta(microseconds=1)


def text(value: str | None, fill: str = "?") -> bytes:
    """As TensorFlow holds it."""
    return (fill if value is None else value).encode()


# From a collected row.
EXPECTED: dict[str, Callable[[Row], Any]] = {
    **{
        name: lambda row, name=name: row[name]
        for name in ("boolean", "byte", "short", "integer", "long", "float", "double", "points")
    },
    "decimal": lambda row: float(row["decimal"]),
    "string": lambda row: text(row["string"]),
    "collated": lambda row: text(row["collated"]),
    "binary": lambda row: bytes(row["binary"]),
    "date": lambda row: (row["date"] - EPOCH.date()).days,
    "timestamp": lambda row: micros(row["timestamp"]),
    "clock": lambda row: micros(row["clock"].replace(tzinfo=dt.UTC)),
    "vector": lambda row: row["vector"].toArray().tolist(),
    "image": lambda row: [[one] for one in row["image"]],
    "padded": lambda row: [*row["padded"], -1, -1][:3],
    "ragged": lambda row: [float(one) for one in row["ragged"]],
    "words": lambda row: [text(one) for one in row["words"] or ()],
    "matrix": lambda row: row["matrix"],
    "struct.a": lambda row: float(row["struct"]["a"]) if row["struct"] else -1.0,
    "struct.b.c": lambda row: text(row["struct"]["b"]["c"] if row["struct"] else None, "none"),
}


def encoder(specs: tuple[ColumnSpec, ...]) -> Callable[[Iterator[Any]], Iterator[pa.RecordBatch]]:
    """What a task does; by value, as Spark's workers cannot import a test."""

    def encoded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import sys

        import pyarrow as pa

        from spark_strategy.data.blocks import encode

        for batch in batches:
            for block in encode(batch, specs, block_bytes=600):
                yield pa.record_batch({"block": pa.array([b"".join(block.buffers)], pa.binary())})
        assert "tensorflow" not in sys.modules

    return encoded


@pytest.mark.parametrize("large", ["false", "true"])
def test_each_type_arrives_as_collect_gives_it(spark: SparkSession, large: str) -> None:
    """With Arrow's short and long offsets, in a session whose time zone is not UTC."""
    settings = {
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.execution.arrow.useLargeVarTypes": large,
    }
    before = {name: spark.conf.get(name) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        rows = frame(spark)
        specs = with_lengths(specs_of(rows.schema.jsonValue(), DECLARED), {"vector": 3})
        assert [spec.name for spec in specs if spec.is_vector] == ["vector"]
        sent = rows.withColumn("vector", vector_to_array("vector")).coalesce(1)
        made = sent.mapInArrow(encoder(specs), "block binary").collect()
        collected = rows.collect()
    finally:
        for name, value in before.items():
            spark.conf.set(name, str(value))
    assert len(made) > 1
    dataset = tf.data.Dataset.from_tensor_slices([bytes(row["block"]) for row in made])
    dataset = dataset.map(lambda content: blocks.decode(content, specs)).rebatch(2)
    dataset = dataset.map(lambda columns: blocks.finish(columns, specs))
    assert dataset.element_spec == blocks.element_spec(specs)
    found: dict[str, list[Any]] = {name: [] for name in EXPECTED}
    for batch in dataset:
        for name, tensor in batch.items():
            is_ragged = isinstance(tensor, tf.RaggedTensor)
            found[name] += tensor.to_list() if is_ragged else tensor.numpy().tolist()
    for name, expected in EXPECTED.items():
        assert found[name] == [expected(row) for row in collected], name
