"""format("tfrecord") on a real Spark, against TensorFlow's own reader, writer and messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pyspark.errors import AnalysisException, PySparkException
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it
from pyspark.sql.types import LongType, StructType

from spark_strategy.errors import SparkStrategyError
from spark_strategy.tfrecord import register_tfrecord
from spark_strategy.tfrecord.source import TFRecordDataSource

ROWS = """
    SELECT id, CAST(id AS INT) AS small, id % 2 = 0 AS flag, CAST(id AS FLOAT) / 4 AS fraction,
        id / 8 AS double, CAST(id / 4 AS DECIMAL(10, 2)) AS price, concat('ä', id) AS text,
        unhex('ff00') AS raw, if(id % 3 = 0, null, id) AS gap, array(id, -id) AS pair,
        if(id % 4 = 0, array(), array(concat('x', id), '')) AS words,
        timestamp_micros(id) AS at, DATE'2013-01-01' + CAST(id AS INT) AS day
    FROM range(50)
"""


@pytest.fixture(scope="module", autouse=True)
def _registered(spark: SparkSession) -> Iterator[None]:
    spark.conf.set("spark.sql.python.filterPushdown.enabled", "true")
    register_tfrecord(spark)
    yield
    spark.conf.unset("spark.sql.python.filterPushdown.enabled")


def save(df: DataFrame, path: Path, **options: str) -> list[Path]:
    """Write a DataFrame; the files with records."""
    df.write.format("tfrecord").options(**options).mode("append").save(str(path))
    return files(path)


def files(path: Path) -> list[Path]:
    """All files with records below a folder."""
    found = path.rglob("*.tfrecord*")
    return sorted(file for file in found if "_temporary" not in str(file.relative_to(path)))


def load(spark: SparkSession, path: Path | str, schema: Any = None, **options: str) -> DataFrame:
    """Read files."""
    reader = spark.read.format("tfrecord").options(**options)
    return (reader.schema(schema) if schema is not None else reader).load(str(path))


def records(paths: list[Path]) -> list[bytes]:
    """What TensorFlow reads."""
    kind = "GZIP" if paths and paths[0].suffix == ".gz" else ""
    return [record.numpy() for record in tf.data.TFRecordDataset([str(p) for p in paths], kind)]


def example(**features: Any) -> tf.train.Example:
    """An Example out of lists."""
    made = {}
    for name, values in features.items():
        if values and isinstance(values[0], bytes):
            made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif values and isinstance(values[0], float):
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made))


def written_by_tensorflow(path: Path, messages: list[Any], kind: str = "") -> Path:
    """A file of TensorFlow's own writer."""
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        for message in messages:
            writer.write(message if isinstance(message, bytes) else message.SerializeToString())
    return path


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_all_types_come_back_and_tensorflow_reads_them(
    spark: SparkSession, tmp_path: Path, compression: str
) -> None:
    """Every scalar and array type, nulls and empty arrays; tf.io.parse_example sees the same."""
    df = spark.sql(ROWS)
    paths = save(df, tmp_path / "t", compression=compression)
    assert (tmp_path / "t" / "_SUCCESS").exists()
    assert not [*(tmp_path / "t").glob("_temporary*")]
    back = load(spark, tmp_path / "t", df.schema)
    assert sorted(back.collect()) == sorted(df.collect())

    rows = {row.id: row for row in df.collect()}
    parsed = tf.io.parse_example(
        tf.constant(records(paths)),
        {
            "id": tf.io.FixedLenFeature([], tf.int64),
            "double": tf.io.FixedLenFeature([], tf.float32),
            "text": tf.io.FixedLenFeature([], tf.string),
            "gap": tf.io.FixedLenFeature([], tf.int64, -1),
            "pair": tf.io.FixedLenFeature([2], tf.int64),
            "words": tf.io.RaggedFeature(tf.string),
        },
    )
    for at, key in enumerate(parsed["id"].numpy().tolist()):
        row = rows[key]
        assert parsed["double"][at].numpy() == np.float32(row.double)
        assert parsed["text"][at].numpy().decode() == row.text
        assert parsed["gap"][at].numpy() == (-1 if row.gap is None else row.gap)
        assert parsed["pair"][at].numpy().tolist() == row.pair
        assert [word.decode() for word in parsed["words"][at].numpy()] == row.words


def test_records_are_byte_for_byte_those_of_protobuf(spark: SparkSession, tmp_path: Path) -> None:
    """The same file as TFRecordWriter makes of deterministically serialized Examples."""
    df = spark.sql(ROWS).select("id", "text", "fraction", "gap", "words").coalesce(1)
    (ours,) = save(df, tmp_path / "t")
    messages = []
    for row in df.collect():
        values = {
            "id": [row.id],
            "text": [row.text.encode()],
            "fraction": [row.fraction],
            **({} if row.gap is None else {"gap": [row.gap]}),
        }
        message = example(**values)
        message.features.feature["words"].bytes_list.value.extend(w.encode() for w in row.words)
        message.features.feature["words"].bytes_list.SetInParent()
        messages.append(message.SerializeToString(deterministic=True))
    theirs = written_by_tensorflow(tmp_path / "theirs", messages)
    assert ours.read_bytes() == theirs.read_bytes()


def test_sequence_examples_go_both_ways(spark: SparkSession, tmp_path: Path) -> None:
    """Arrays of arrays are feature_lists, the rest is context; the schema is found again."""
    df = spark.sql(
        "SELECT id, array(id, 1L) AS pair, transform(sequence(0, id), i -> array(i, i + id)) AS m, "
        "array(array('a', 'b'), CAST(array() AS ARRAY<STRING>)) AS w FROM range(10)"
    ).coalesce(1)
    paths = save(df, tmp_path / "s", recordType="SequenceExample")
    for row, record in zip(df.collect(), records(paths), strict=True):
        message = tf.train.SequenceExample.FromString(record)
        assert message.SerializeToString(deterministic=True) == record
        assert message.context.feature["pair"].int64_list.value == row.pair
        lists = message.feature_lists.feature_list
        assert [list(one.int64_list.value) for one in lists["m"].feature] == row.m
    back = load(spark, tmp_path / "s", recordType="SequenceExample")
    assert [(f.name, f.dataType.simpleString()) for f in back.schema] == [
        ("id", "bigint"),
        ("m", "array<array<bigint>>"),
        ("pair", "array<bigint>"),
        ("w", "array<array<string>>"),
    ]
    assert sorted(back.select(df.columns).collect()) == sorted(df.collect())
    with pytest.raises(PySparkException, match="recordType to SequenceExample"):
        save(df, tmp_path / "no")


def test_raw_records_and_vectors(spark: SparkSession, tmp_path: Path) -> None:
    """ByteArray passes records through; vectors become dense floats and come back as vectors."""
    raw = spark.createDataFrame([(b"",), (b"\x00\xff",)], "byteArray binary").coalesce(1)
    paths = save(raw, tmp_path / "raw", recordType="ByteArray")
    assert records(paths) == [b"", b"\x00\xff"]
    assert load(spark, tmp_path / "raw", recordType="ByteArray").collect() == raw.collect()

    vectors = [Vectors.dense([1.0, 2.0]), Vectors.sparse(4, [1, 3], [0.5, -1.0]), None]
    df = spark.createDataFrame(list(enumerate(vectors)), ["id", "v"]).coalesce(1)
    save(df, tmp_path / "v")
    floats = load(spark, tmp_path / "v", "id LONG, v ARRAY<FLOAT>").orderBy("id").collect()
    assert [row.v for row in floats] == [[1.0, 2.0], [0.0, 0.5, 0.0, -1.0], None]
    back = load(spark, tmp_path / "v", df.schema).orderBy("id").collect()
    assert [row.v for row in back] == [vectors[0], Vectors.dense([0.0, 0.5, 0.0, -1.0]), None]


def test_schemas_merge_over_files(spark: SparkSession, tmp_path: Path) -> None:
    """Features of any file, absent ones null, scalars and arrays arrays; conflicts are refused."""
    written_by_tensorflow(tmp_path / "a", [example(x=[1], z=[b"\xff"]), example(x=[2, 3])])
    written_by_tensorflow(tmp_path / "b", [example(y=[1.5])], "GZIP")
    df = load(spark, tmp_path)
    assert df.schema.simpleString() == "struct<x:array<bigint>,y:float,z:binary>"
    assert sorted(df.collect(), key=str) == sorted(
        [([1], None, b"\xff"), ([2, 3], None, None), (None, 1.5, None)], key=str
    )
    assert load(spark, tmp_path, columns="y").where("y > 1").collect() == [(1.5,)]
    only = load(spark, tmp_path, sampleRecords="1", sampleFiles="1")
    assert only.schema.simpleString() == "struct<x:bigint,z:binary>"
    written_by_tensorflow(tmp_path / "c", [example(x=[b"text"])])
    with pytest.raises(PySparkException, match="feature 'x' is bytes_list here, but int64_list"):
        load(spark, tmp_path, sampleRecords="all", sampleFiles="all")


def test_folders_are_columns_and_filters_skip_them(spark: SparkSession, tmp_path: Path) -> None:
    """partitionBy as an option; types are found; a file that a filter excludes is never opened."""
    df = spark.sql("SELECT id, id % 3 AS part, if(id < 2, null, 'a/b=c') AS name FROM range(9)")
    paths = save(df, tmp_path / "p", partitionBy="part,name")
    assert {path.parent.parent.name for path in paths} == {"part=0", "part=1", "part=2"}
    back = load(spark, tmp_path / "p")
    assert back.schema.simpleString() == "struct<id:bigint,part:int,name:string>"
    assert sorted(back.collect(), key=str) == sorted(df.collect(), key=str)
    for path in paths:
        if "part=0" not in str(path):
            path.write_bytes(b"no record at all")
    kept = load(spark, tmp_path / "p", df.schema).where("part = 0 AND name IS NOT NULL")
    assert sorted(row.id for row in kept.collect()) == [3, 6]
    with pytest.raises(PySparkException, match="at byte 0"):
        load(spark, tmp_path / "p", df.schema).collect()


def test_save_modes(spark: SparkSession, tmp_path: Path) -> None:
    """Append adds, overwrite replaces, ifExists refuses or leaves alone."""
    one, path = spark.range(3).coalesce(1), tmp_path / "m"
    assert len(save(one, path)) == 1
    assert len(save(one, path)) == 2
    one.write.format("tfrecord").mode("overwrite").save(str(path))
    assert len(files(path)) == 1
    save(one, path, ifExists="ignore")
    with pytest.raises(PySparkException, match="has files already"):
        save(one, path, ifExists="error")
    with pytest.raises(AnalysisException, match="Append"):
        one.write.format("tfrecord").save(str(path))
    assert load(spark, path).count() == 3


def test_appends_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """The end of one job is in nobody's way, wherever the others are."""

    def append(batches: int) -> None:
        for one in range(batches):
            writer = TFRecordDataSource({"path": str(tmp_path)}).writer(
                StructType().add("x", LongType()), False
            )
            message = writer.write(iter([pa.RecordBatch.from_pydict({"x": [one]})]))
            writer.commit([message])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(append, 50) for _ in range(4)]:
            done.result()
    assert len(files(tmp_path)) == 200
    assert (tmp_path / "_SUCCESS").exists()
    assert not [*tmp_path.glob("_temporary*")]


def test_a_failed_write_leaves_nothing(spark: SparkSession, tmp_path: Path) -> None:
    """A task that fails after another has written: no file, and what was there is still there."""
    path = tmp_path / "f"
    before = save(spark.range(3), path)
    rows = spark.range(0, 100, 1, 2).selectExpr("if(id = 99, array(null, 1), array(2)) AS x")
    with pytest.raises(PySparkException, match="Column 'x' has an array with a null"):
        rows.write.format("tfrecord").mode("overwrite").save(str(path))
    assert files(path) == before
    assert not [*path.glob("_temporary*")]


def test_a_task_that_outlives_its_job_writes_nothing(tmp_path: Path) -> None:
    """Spark aborts the job when one task has failed, and the others may run for seconds more."""
    writer = TFRecordDataSource({"path": str(tmp_path)}).writer(
        StructType().add("x", LongType()), False
    )
    late = pa.RecordBatch.from_pydict({"x": [1]})
    writer.abort([])
    with pytest.raises(SparkStrategyError, match="was given up"):
        writer.write(iter([late]))
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_refused_skipped_or_told(spark: SparkSession, tmp_path: Path) -> None:
    """A flipped byte, a wrong type and a cut end, each by mode, with file and offset."""
    good = [example(x=[i]) for i in range(4)]
    path = written_by_tensorflow(tmp_path / "d", [*good, example(x=[b"text"]), example(x=[9])])
    data = bytearray(path.read_bytes())
    size = 16 + len(good[0].SerializeToString())
    data[size + 14] ^= 1
    path.write_bytes(data[:-3])
    with pytest.raises(PySparkException, match=rf"d at byte {size}: its bytes do not fit"):
        load(spark, path, "x LONG").collect()
    kept = load(spark, path, "x LONG", mode="DROPMALFORMED").collect()
    assert sorted(row.x for row in kept) == [0, 2, 3]
    told = load(spark, path, "x LONG, _corrupt_record STRING", mode="PERMISSIVE").collect()
    assert [row.x for row in told] == [0, None, 2, 3, None, None]
    reasons = [row._corrupt_record for row in told if row._corrupt_record]
    assert "checksum" in reasons[0]
    assert "is bytes_list, but its column needs int64_list" in reasons[1]
    assert "the file ends within this record" in reasons[2]
    inferred = load(spark, path, mode="PERMISSIVE", sampleRecords="1")
    assert inferred.columns == ["x", "_corrupt_record"]
    for schema, values, why in (
        ("x INT", [2**40], "has the value 1099511627776, which int32 cannot hold"),
        ("x LONG", [1, 2], "has 2 values, but its column is no array"),
        ("x STRING", [b"\xff"], "is no UTF-8"),
    ):
        one = written_by_tensorflow(tmp_path / "one", [example(x=values)])
        with pytest.raises(PySparkException, match=why):
            load(spark, one, schema).collect()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(path.read_bytes())[:-12])
    with pytest.raises(PySparkException, match=r"GZIP stream is damaged|do not fit"):
        load(spark, cut, "x LONG").collect()


def test_the_tasks_run_in_this_python(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a virtual environment that is not activated, whose python3 is not first on PATH."""
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    monkeypatch.setattr(spark.sparkContext, "pythonExec", "/there/is/no/python3")
    register_tfrecord(spark)
    save(spark.range(3), tmp_path / "t")
    assert load(spark, tmp_path / "t").count() == 3
    assert spark.sparkContext.pythonExec == "/there/is/no/python3"


def test_the_first_line_of_an_error_says_what_is_wrong(spark: SparkSession, tmp_path: Path) -> None:
    """Neither a traceback of the worker nor a stack of the JVM stands in front of it."""
    (tmp_path / "part.tfrecord").write_text("these are not records")
    with pytest.raises(PySparkException) as raised:
        load(spark, tmp_path)
    first = str(raised.value).splitlines()[0]
    assert "part.tfrecord at byte 0" in first
    assert "looks like text" in first
    for schema in (None, "x LONG"):  # with a schema, Spark makes the source when it plans
        with pytest.raises(PySparkException, match="Did you mean 'recursiveFileLookup'"):
            load(spark, tmp_path, schema, recursiveFileLookups="true").collect()


def test_a_view_of_files_and_an_empty_table(spark: SparkSession, tmp_path: Path) -> None:
    """SQL names the files with OPTIONS; a table without rows is one."""
    save(spark.sql("SELECT 1L AS a, 'x' AS b WHERE false"), tmp_path / "t")
    spark.sql(f"CREATE TEMPORARY VIEW empty USING tfrecord OPTIONS (path '{tmp_path / 't'}')")
    found = spark.table("empty")
    assert found.schema.simpleString() == "struct<a:bigint,b:string>"
    assert found.collect() == []


def test_bad_input_is_refused_before_a_job(spark: SparkSession, tmp_path: Path) -> None:
    """Paths, options and columns that make no sense say what to do."""
    for options, path, text in (
        ({}, tmp_path / "absent", "does not exist"),
        ({}, tmp_path, "No files in"),
        ({"mode": "LAX"}, tmp_path, "mode='LAX' is none of"),
        ({"recordType": "Avro"}, tmp_path, "recordType='Avro' is none of"),
        ({"sampleRecords": "few"}, tmp_path, "neither a whole number"),
        ({}, "nope://host/x", "needs an fsspec filesystem"),
    ):
        with pytest.raises(PySparkException, match=text):
            load(spark, path, **options)
    with pytest.raises(PySparkException, match="Column 'm' is a map"):
        save(spark.sql("SELECT map(1, 2) AS m"), tmp_path / "no")
    with pytest.raises(PySparkException, match="partitionBy names nope"):
        save(spark.range(2), tmp_path / "no", partitionBy="nope")
    assert not (tmp_path / "no").exists()


def test_streams_read_each_file_once_and_write_each_batch(
    spark: SparkSession, tmp_path: Path
) -> None:
    """From folder to folder in batches of a file, across a restart."""
    source, sink = tmp_path / "in", tmp_path / "out"

    def run() -> None:
        stream = spark.readStream.format("tfrecord").schema("id LONG")
        reading = stream.option("maxFilesPerTrigger", "1").load(str(source))
        writing = reading.select((F.col("id") * 2).alias("id")).writeStream.format("tfrecord")
        writing = writing.option("checkpointLocation", str(tmp_path / "checkpoint"))
        query = writing.option("path", str(sink)).trigger(processingTime="0 seconds").start()
        done = threading.Event()
        try:
            deadline = 40.0
            while not done.wait(0.2) and deadline > 0:
                deadline -= 0.2
                assert query.exception() is None
                query.processAllAvailable()
                done.set()
        finally:
            query.stop()

    save(spark.range(0, 4, 1, 2), source)
    run()
    assert sorted(row.id for row in load(spark, sink).collect()) == [0, 2, 4, 6]
    save(spark.range(4, 6, 1, 1), source)
    run()
    assert sorted(row.id for row in load(spark, sink).collect()) == [0, 2, 4, 6, 8, 10]
    assert len(files(sink)) == 3
    assert not [*sink.glob("_temporary*")]
