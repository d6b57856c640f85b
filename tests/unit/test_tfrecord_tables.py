"""TFRecord tables as the data source reads and writes them, without a Spark session."""

from __future__ import annotations

import json
import os
import resource
import zlib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from fsspec import register_implementation
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxFiles
from pyspark.sql.types import StructType

from spark_strategy.errors import DataError, PlanError
from spark_strategy.tfrecord.files import File, Place
from spark_strategy.tfrecord.partitions import folder_of, partition_scalar, partition_types
from spark_strategy.tfrecord.source import TFRecordDataSource
from spark_strategy.tfrecord.streaming import StreamReader

HERE = Place("file:///t", {})


def found(values: list[str | None]) -> list[File]:
    """A file in a folder of each value of a column p."""
    return [File(f"/t/{at}", 1, 0.0, {"p": value}, HERE) for at, value in enumerate(values)]


def write(
    path: Path | str, batch: pa.RecordBatch, *, overwrite: bool = False, **options: str
) -> None:
    """Write a batch as one task of one job does."""
    kinds = {pa.int64(): "long", pa.string(): "string", pa.float64(): "double"}
    schema = StructType()
    for field in batch.schema:
        schema.add(field.name, kinds[field.type])
    writer = TFRecordDataSource({"path": str(path), **options}).writer(schema, overwrite)
    writer.commit([writer.write(iter([batch] if batch.num_rows else []))])


def read(path: Path | str | list[str], schema: Any = None, **options: str) -> list[dict[str, Any]]:
    """All rows, sorted."""
    given = {"paths": json.dumps(path)} if isinstance(path, list) else {"path": str(path)}
    source = TFRecordDataSource({**given, **options})
    reader = source.reader(schema or source.schema())
    batches = [b for part in reader.partitions() for b in reader.read(part)]
    return sorted((row for batch in batches for row in batch.to_pylist()), key=str)


def rows(**columns: list[Any]) -> pa.RecordBatch:
    """A batch."""
    return pa.RecordBatch.from_pydict(columns)


# What Spark infers (PartitioningUtils); a dozen were also seen in spark.read.parquet (Spark 4.3).
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["2024_01", "2024_02"], "string"),
        (["2024-W05"], "string"),
        (["1_000"], "string"),
        (["nan"], "string"),
        (["NaN", "1.5"], "double"),
        (["Infinity", "-Infinity"], "double"),
        ([" 12"], "double"),
        (["2013d"], "double"),
        (["20240105", "007"], "integer"),
        (["٣"], "integer"),
        (["+5", None], "integer"),
        (["1", "2147483648"], "long"),
        (["1e3"], "decimal(4,0)"),
        (["1", "1e3"], "decimal(10,0)"),
        (["12345678901234567890"], "decimal(20,0)"),
        (["1" * 39], "double"),
        (["1", "1.5"], "double"),
        (["2147483648", "1.5"], "string"),
        (["2024-01-05"], "date"),
        (["2024-02-30"], "string"),
        (["2024-1-5"], "string"),
        (["2024-01-05 10:00:00", "2024-01-05 10:00:00.25"], "timestamp"),
        (["2024-01-05", "2024-01-05 10:00:00"], "timestamp"),
        (["2024-01-05", "7"], "string"),
        (["True", "false"], "string"),
        ([None], "string"),
    ],
)
def test_types_of_folders_are_those_that_spark_finds(values: list[str | None], kind: str) -> None:
    """And with type inference switched off all are text."""
    assert partition_types(found(values)) == {"p": kind}
    assert partition_types(found(values), inferred=False) == {"p": "string"}


def test_values_of_folders_are_read_as_java_reads_them() -> None:
    """Whatever type is found or given; what does not fit is refused by value."""
    zone = ZoneInfo("Europe/Berlin")
    for text, kind, value in (
        ("+5", pa.int32(), 5),
        ("٣", pa.int64(), 3),
        (" 12", pa.float64(), 12.0),
        ("0x1p3", pa.float64(), 8.0),
        ("1e3", pa.decimal128(4, 0), Decimal(1000)),
        ("TRUE", pa.bool_(), True),
        ("2024-1-5", pa.date32(), date(2024, 1, 5)),
        ("2024-01-05 10:00:00.5", pa.timestamp("us", "UTC"),
         datetime(2024, 1, 5, 9, 0, 0, 500000, UTC)),
        ("2024-01-05", pa.timestamp("us"), datetime.fromisoformat("2024-01-05")),
        ("x", pa.binary(), b"x"),
    ):  # fmt: skip
        assert partition_scalar(text, kind, zone).as_py() == value
    for text, kind in (("1_000", pa.int32()), ("2024-W05", pa.date32()), ("300", pa.int8())):
        with pytest.raises(PlanError, match=f"The folder's value '{text}' is not of the type"):
            partition_scalar(text, kind)


def test_folders_are_named_as_spark_names_them() -> None:
    """Casts to text as Spark's, and only the characters that it escapes."""
    assert folder_of({"ü": "a/b c:é", ".p": None, "q": ""}) == (
        "ü=a%2Fb c%3Aé/.p=__HIVE_DEFAULT_PARTITION__/q=__HIVE_DEFAULT_PARTITION__"
    )
    at = datetime(2024, 1, 5, 9, 0, 0, 250000, UTC)
    assert folder_of({"t": at}, ZoneInfo("Europe/Berlin")) == "t=2024-01-05 10%3A00%3A00.25"
    values = {"a": np.float32(0.1), "b": float("inf"), "c": Decimal("1E-7"), "d": True, "e": b"x"}
    assert folder_of(values) == "a=0.1/b=Infinity/c=0.0000001/d=true/e=x"
    with pytest.raises(DataError, match="not UTF-8"):
        folder_of({"p": b"\xff"})


def test_a_column_that_begins_with_a_dot_hides_no_rows(tmp_path: Path) -> None:
    """Folders with a value are read, files and folders of others are not."""
    write(tmp_path, rows(x=[1, 2], **{".p": ["a", "b"]}), partitionBy=".p")
    (tmp_path / ".staging").mkdir()
    (tmp_path / ".staging" / "part").write_bytes(b"half a record")
    assert read(tmp_path) == [{"x": 1, ".p": "a"}, {"x": 2, ".p": "b"}]


def test_each_path_is_read_with_its_own_filesystem() -> None:
    """Two stores have files of one name, for a read and for a stream."""
    paths = ["one://data/same.tfrecord", "two://data/same.tfrecord"]
    for number, path in enumerate(paths):
        write(path.rpartition("/")[0], rows(x=[number]))
        fs = Place(path, {}).filesystem
        (name,) = (n for n in fs.find("data") if "part-" in n)
        fs.mv(name, "data/same.tfrecord")
    assert read(paths) == [{"x": 0}, {"x": 1}]
    reader = TFRecordDataSource({"paths": json.dumps(paths)}).streamReader(
        StructType().add("x", "long")
    )
    end = reader.latestOffset(reader.initialOffset(), ReadAllAvailable())
    parts = reader.partitions(reader.initialOffset(), end)
    assert [b.to_pydict() for p in parts for b in reader.read(p)] == [{"x": [0]}, {"x": [1]}]


@pytest.fixture(autouse=True)
def _stores(tmp_path_factory: pytest.TempPathFactory) -> None:
    def store(name: str) -> type[DirFileSystem]:
        root = tmp_path_factory.mktemp(name)

        class Store(DirFileSystem):
            protocol = name
            cachable = False

            def __init__(self, **_: Any) -> None:
                super().__init__(path=str(root), fs=LocalFileSystem())

            @classmethod
            def _strip_protocol(cls, path: str) -> str:
                return path.removeprefix(f"{name}://")

        return Store

    for name in ("one", "two"):
        register_implementation(name, store(name), clobber=True)


@pytest.mark.parametrize(
    ("mode", "left"),
    [("dynamic", [(1, "a"), (4, "c"), (3, "b")]), ("static", [(3, "b")])],
)
def test_overwrite_replaces_what_its_mode_says(
    tmp_path: Path, mode: str, left: list[tuple[int, str]]
) -> None:
    """Dynamic: the folders that rows go to; static: everything."""
    write(tmp_path, rows(x=[1, 2, 4], p=["a", "b", "c"]), partitionBy="p")
    write(
        tmp_path, rows(x=[3], p=["b"]), overwrite=True, partitionBy="p", partitionOverwriteMode=mode
    )
    assert {(row["x"], row["p"]) for row in read(tmp_path)} == set(left)


def test_dynamic_overwrite_without_folders_replaces_the_table(tmp_path: Path) -> None:
    """As Spark's: the mode speaks of folders only."""
    write(tmp_path, rows(x=[1]))
    write(tmp_path, rows(x=[2]), overwrite=True, partitionOverwriteMode="dynamic")
    assert read(tmp_path) == [{"x": 2}]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_many_folders_need_few_open_files(tmp_path: Path, compression: str) -> None:
    """One file per folder, though fewer files may be open than there are folders."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len([*Path("/proc/self/fd").iterdir()])
    batch = rows(x=list(range(600)), p=[at % 300 for at in range(600)])
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        write(tmp_path, batch, partitionBy="p", compression=compression)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len([*tmp_path.rglob("*.tfrecord*")]) == 300
    assert sorted((row["x"], row["p"]) for row in read(tmp_path)) == [
        (at, at % 300) for at in range(600)
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("recursiveFileLokup", "Did you mean 'recursiveFileLookup'?"),
        ("pathGlobFiler", "Did you mean 'pathGlobFilter'?"),
        ("mergeSchema", "merged in any case"),
        ("fs.s3a.endpoint", "go into storageOptions"),
        ("header", "It has recordType"),
    ],
)
def test_unknown_options_are_refused_when_they_are_given(name: str, text: str) -> None:
    """In load, before anything is read, with what was probably meant."""
    with pytest.raises(PlanError, match=f"no option '{name}'") as raised:
        TFRecordDataSource({"path": "/t", name: "1"})
    assert text in str(raised.value)


def test_files_are_chosen_as_by_sparks_file_sources(tmp_path: Path) -> None:
    """recursiveFileLookup, pathGlobFilter, modifiedAfter and Before, basePath, braces."""
    write(tmp_path / "p=1", rows(x=[1]))
    write(tmp_path / "p=2", rows(x=[2]))
    for number, seconds in ((1, 1000), (2, 2000)):
        (file,) = (tmp_path / f"p={number}").glob("part*")
        os.utime(file, (seconds, seconds))
        file.rename(file.with_name(f"{number}.tfrecord"))
    one, two = {"x": 1, "p": 1}, {"x": 2, "p": 2}
    assert read(tmp_path) == [one, two]
    assert read(tmp_path, recursiveFileLookup="true") == [{"x": 1}, {"x": 2}]
    assert read(tmp_path, pathGlobFilter="{2,3}.*") == [two]
    assert read(tmp_path, modifiedAfter="1970-01-01T00:20:00") == [two]
    assert read(tmp_path, modifiedBefore="1970-01-01T01:20:00", timeZone="+01:00") == [one]
    assert read(tmp_path / "p={1,2}", basePath=str(tmp_path)) == [one, two]
    assert read(tmp_path / "p=1") == [{"x": 1}]
    with pytest.raises(PlanError, match="is not above"):
        read(tmp_path, basePath=str(tmp_path / "p=1"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"these are not records\n" * 9, "text"), (zlib.compress(b"x" * 99), "ZLIB"),
     (b"PAR1" + bytes(30), "Parquet"), (b"short", "text")],
)  # fmt: skip
def test_files_that_are_no_records_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    """When the schema is looked for already, with what they look like."""
    (tmp_path / "part.tfrecord").write_bytes(content)
    with pytest.raises(DataError, match=rf"part.tfrecord at byte 0: .*{kind}"):
        read(tmp_path)


def test_a_table_without_rows_can_be_read(tmp_path: Path) -> None:
    """By the schema that its write left; rows that come later tell theirs."""
    empty = rows(a=pa.array([], pa.int64()), b=pa.array([], pa.string()))
    write(tmp_path, empty)
    source = TFRecordDataSource({"path": str(tmp_path)})
    assert source.schema().simpleString() == "struct<a:bigint,b:string>"
    assert read(tmp_path) == []
    write(tmp_path, rows(c=[1]))
    assert read(tmp_path) == [{"c": 1}]
    write(tmp_path, empty, overwrite=True)
    assert read(tmp_path) == []


def test_values_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """Column, value and, where it is read, file."""
    write(tmp_path, rows(x=[1, 2**40]))
    with pytest.raises(DataError, match=r"tfrecord at byte \d+: feature 'x' has the value 1099511"):
        read(tmp_path, StructType().add("x", "integer"))
    with pytest.raises(DataError, match=r"Column 'x' has the value 1e\+300, which a float_list"):
        write(tmp_path, rows(x=[1.0, 1e300]))
    arrays = StructType.fromJson({"type": "struct", "fields": [
        {"name": "x", "nullable": True, "metadata": {},
         "type": {"type": "array", "elementType": "long", "containsNull": True}}]})  # fmt: skip
    writer = TFRecordDataSource({"path": str(tmp_path)}).writer(arrays, False)
    with pytest.raises(DataError, match=r"'x' has an array with a null in it.*: \[7, None\]"):
        writer.write(iter([rows(x=[[1], [7, None]])]))
    writer.abort([])


def stream(path: Path, **options: str) -> StreamReader:
    """A stream of a folder's column x."""
    source = TFRecordDataSource({"path": str(path), **options})
    reader = source.streamReader(StructType().add("x", "long"))
    assert isinstance(reader, StreamReader)
    return reader


def add(path: Path, number: int, at: float) -> None:
    """A file with one row, of this time."""
    write(path / "making", rows(x=[number]))
    (file,) = (path / "making").glob("part*")
    os.utime(file, (at, at))
    (path / "in").mkdir(exist_ok=True)
    file.rename(path / "in" / f"{number}.tfrecord")


def taken(reader: StreamReader, start: dict[str, Any], end: dict[str, Any]) -> list[int]:
    """The values of a batch."""
    parts = reader.partitions(start, end)
    return [x for part in parts for b in reader.read(part) for x in b.column("x").to_pylist()]


def test_a_stream_takes_each_file_once_also_late_ones(tmp_path: Path) -> None:
    """Oldest first; the first batches take files of any age; a late file is not missed."""
    reader, day = stream(tmp_path / "in"), 24 * 3600
    start = reader.initialOffset()
    assert reader.latestOffset(start, ReadAllAvailable()) == start
    add(tmp_path, 1, 1000)
    add(tmp_path, 2, 1000 + 30 * day)
    first = reader.latestOffset(start, ReadMaxFiles(1))
    assert taken(reader, start, first) == [1]
    second = reader.latestOffset(first, ReadMaxFiles(1))
    assert taken(reader, first, second) == [2]
    add(tmp_path, 3, 1000 + 29 * day)
    add(tmp_path, 4, 1000 + 2 * day)
    third = reader.latestOffset(second, ReadAllAvailable())
    assert taken(reader, second, third) == [3]
    assert reader.latestOffset(third, ReadAllAvailable()) == third


def test_a_streams_offset_stays_small(tmp_path: Path) -> None:
    """It knows of no more files than maxSeenFiles, and takes none twice."""
    reader = stream(tmp_path / "in", maxSeenFiles="3")
    offset, values = reader.initialOffset(), []
    for number in range(12):
        add(tmp_path, number, 1000 + number)
        end = reader.latestOffset(offset, ReadAllAvailable())
        values += taken(reader, offset, end)
        offset = end
    assert values == list(range(12))
    assert len(offset["seen"]) == 3 * 11
    assert len(offset["batch"]) == 1


def test_files_that_are_gone_are_named_or_left_out(tmp_path: Path) -> None:
    """Between listing and reading, of a stream and of a read."""
    reader = stream(tmp_path / "in")
    add(tmp_path, 1, 1000)
    add(tmp_path, 2, 1000)
    start = reader.initialOffset()
    end = reader.latestOffset(start, ReadAllAvailable())
    source = TFRecordDataSource({"path": str(tmp_path / "in")})
    planned = source.reader(source.schema())
    (tmp_path / "in" / "1.tfrecord").unlink()
    with pytest.raises(DataError, match=r"1.tfrecord is gone since it was listed.*ignoreMissing"):
        reader.partitions(start, end)
    with pytest.raises(DataError, match=r"1.tfrecord is gone since it was listed"):
        [*planned.read(planned.partitions()[0])]
    assert taken(stream(tmp_path / "in", ignoreMissingFiles="true"), start, end) == [2]
