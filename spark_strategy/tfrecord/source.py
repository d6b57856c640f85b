"""``format("tfrecord")``: Spark's Python Data Source over TFRecord files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql.datasource import (
    DataSource,
    DataSourceArrowWriter,
    DataSourceReader,
    InputPartition,
    WriterCommitMessage,
)
from pyspark.sql.types import StructType

from spark_strategy.errors import PlanError
from spark_strategy.spark.capacity import file_root, is_connect
from spark_strategy.tfrecord.features import features_of
from spark_strategy.tfrecord.files import File, Place, find_files, paths_of
from spark_strategy.tfrecord.inference import inferred_fields
from spark_strategy.tfrecord.options import Mode, Options, parse_options
from spark_strategy.tfrecord.partitions import partition_types
from spark_strategy.tfrecord.reading import Plan, read_file
from spark_strategy.tfrecord.records import Piece, read_pieces
from spark_strategy.tfrecord.writing import (
    Job,
    abort,
    begin,
    commit,
    stream_key,
    withdraw_if_late,
    write_files,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.datasource import DataSourceStreamReader, DataSourceStreamWriter

# What opening a file costs, in bytes of reading: Spark's own guess.
_OPEN_BYTES: Final = 4 << 20


class TFRecordDataSource(DataSource):
    """TFRecord files as a source and a sink; docs/tfrecord.md lists the options.

    Attributes:
        defaults: of options that a read or write may give; ``register_tfrecord`` fills them from
            the session.
    """

    defaults: ClassVar[dict[str, str]] = {}

    @classmethod
    def name(cls) -> str:
        """What ``format`` calls it."""
        return "tfrecord"

    def _read_options(self) -> tuple[Options, list[Place]]:
        options = parse_options(self.options, **self.defaults)
        return options, [options.place(path) for path in paths_of(self.options)]

    def schema(self) -> StructType:
        """The schema that a part of the records, or all of them, has."""
        options, places = self._read_options()
        files = find_files(places)
        if not files:
            raise PlanError(
                f"No files in {', '.join(place.url for place in places)} to infer a schema from. "
                "Give one: spark.read.schema('a BIGINT').format('tfrecord')."
            )
        partitions = partition_types(files)
        fields = inferred_fields(options.message, _sample(places[0], files, options))
        fields = [field for field in fields if field["name"] not in partitions]
        fields += [
            {"name": name, "type": kind, "nullable": True, "metadata": {}}
            for name, kind in partitions.items()
        ]
        if options.columns:
            by_name = {field["name"]: field for field in fields}
            if missing := [name for name in options.columns if name not in by_name]:
                raise PlanError(f"columns names {missing}, but there are {sorted(by_name)}.")
            fields = [by_name[name] for name in options.columns]
        if options.mode is Mode.PERMISSIVE:
            name = options.corrupt_column
            fields.append({"name": name, "type": "string", "nullable": True, "metadata": {}})
        return StructType.fromJson({"type": "struct", "fields": fields})

    def reader(self, schema: StructType) -> DataSourceReader:
        """Reads these columns."""
        options, places = self._read_options()
        kind = _FilteringReader if options.pushes_filters else _Reader
        return kind(*_planned(schema, options, places))

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceArrowWriter:  # noqa: FBT001
        """Writes these columns."""
        job = self._job(schema, overwrite=overwrite)
        if not overwrite and job.options.if_exists != "append" and job.exists():
            if job.options.if_exists == "ignore":
                return _Nothing()
            raise PlanError(f"{job.place.url} has files already, and ifExists is 'error'.")
        begin(job)
        return _Writer(job)

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 - Spark's
        """Reads files as they arrive."""
        from spark_strategy.tfrecord.streaming import StreamReader

        options, places = self._read_options()
        plan, files, place = _planned(schema, options, places, must_exist=False)
        del files
        return StreamReader(plan, place)

    def streamWriter(  # noqa: N802 - Spark's name
        self,
        schema: StructType,
        overwrite: bool,  # noqa: FBT001
    ) -> DataSourceStreamWriter:
        """Writes each micro-batch as files of its own."""
        from spark_strategy.tfrecord.streaming import StreamWriter

        if overwrite:
            raise PlanError("format('tfrecord') streams with outputMode append only.")
        job = self._job(schema, overwrite=False)
        # Spark makes a new writer to commit: both must know the same temporary folder.
        return StreamWriter(replace(job, key=stream_key(job)))

    def _job(self, schema: StructType, *, overwrite: bool) -> Job:
        options, places = self._read_options()
        job = Job(places[0], features_of(schema.jsonValue()), options, overwrite)
        job.check()
        return job


def register_tfrecord(spark: SparkSession) -> None:
    """Make ``format("tfrecord")`` known to a session, classic or Connect.

    Paths without a scheme then mean the session's default filesystem, and folders are skipped by
    filters where ``spark.sql.python.filterPushdown.enabled`` is on.
    """
    defaults = {"filterPushdown": spark.conf.get(_PUSHDOWN, "false") or "false"}
    # A Connect client sees only what the settings say; its server's Python looks for the rest.
    if not is_connect(spark) or spark.conf.get(_DEFAULT, None):
        defaults["fileRoot"] = json.dumps(asdict(file_root(spark)))
    spark.dataSource.register(
        type("TFRecordDataSource", (TFRecordDataSource,), {"defaults": defaults})
    )


_PUSHDOWN: Final = "spark.sql.python.filterPushdown.enabled"
_DEFAULT: Final = "spark.hadoop.fs.defaultFS"


def _sample(place: Place, files: Sequence[File], options: Options) -> Iterator[tuple[str, Piece]]:
    """Pieces of the files that a schema is inferred from."""
    step = max(1, len(files) // (options.sample_files or len(files)))
    for file in files[::step][: options.sample_files]:
        left = options.sample_records
        with place.filesystem.open(file.path, "rb") as stream:
            for piece in read_pieces(stream, most=min(left or 10_000, 10_000)):
                yield file.path, piece
                if left is not None and (left := left - len(piece.scan.records)) <= 0:
                    break


def _planned(
    schema: StructType, options: Options, places: Sequence[Place], *, must_exist: bool = True
) -> tuple[Plan, list[File], Place]:
    files = find_files(places) if must_exist else []
    columns = features_of(schema.jsonValue())
    plan = Plan(columns, frozenset(partition_types(files)), options)
    plan.check()
    return plan, files, places[0]


@dataclass
class Files(InputPartition):
    """Files that one task reads."""

    files: Sequence[File]


def grouped(files: Sequence[File], most_bytes: int) -> list[Files]:
    """Files in their order, small ones together."""
    groups: list[Files] = []
    room = 0
    for file in files:
        cost = file.size + _OPEN_BYTES
        if cost > room:
            groups.append(Files([]))
            room = most_bytes
        groups[-1] = Files([*groups[-1].files, file])
        room -= cost
    return groups


class _Reader(DataSourceReader):
    def __init__(self, plan: Plan, files: Sequence[File], place: Place) -> None:
        self._plan = plan
        self._files = list(files)
        self._place = place

    def partitions(self) -> list[InputPartition]:
        return [*grouped(self._files, self._plan.options.partition_bytes)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        if isinstance(partition, Files):  # Spark makes up one for no files
            for file in partition.files:
                yield from read_file(self._place, file, self._plan)


class _FilteringReader(_Reader):
    """Skips folders; Spark refuses this method where its setting for it is off."""

    def pushFilters(self, filters: Any) -> Any:  # noqa: N802 - Spark's name
        from spark_strategy.tfrecord.filters import may_match

        types = {
            column.name: column.arrow
            for column in self._plan.columns
            if column.name in self._plan.partitioned
        }
        self._files = [file for file in self._files if may_match(file.partition, types, filters)]
        return filters  # Spark looks at the rows again


@dataclass
class Written(WriterCommitMessage):
    """What a task wrote, below the job's temporary folder."""

    files: tuple[str, ...]


def task_name() -> str:
    """A name for a task's file that no other try has."""
    context = TaskContext.get()
    number = 0 if context is None else context.partitionId()
    return f"part-{number:05d}-{uuid.uuid4().hex}"


class _Writer(DataSourceArrowWriter):
    def __init__(self, job: Job) -> None:
        self._job = job

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Written:
        try:
            return Written(write_files(self._job, iterator, task_name()))
        finally:
            withdraw_if_late(self._job)

    def commit(self, messages: Sequence[Any]) -> None:
        commit(self._job, [message.files for message in messages if message is not None])

    def abort(self, messages: Sequence[Any]) -> None:  # noqa: ARG002 - Spark's signature
        abort(self._job)


class _Nothing(DataSourceArrowWriter):
    """Leaves what is there as it is."""

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Written:  # noqa: ARG002
        return Written(())
