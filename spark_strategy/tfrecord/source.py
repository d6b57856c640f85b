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
from spark_strategy.spark.session import own_python, short_errors, traceback_kept
from spark_strategy.tfrecord.features import features_of
from spark_strategy.tfrecord.files import File, Place, paths_of
from spark_strategy.tfrecord.listing import find_files
from spark_strategy.tfrecord.options import Mode, Options, parse_options
from spark_strategy.tfrecord.partitions import partition_types
from spark_strategy.tfrecord.reading import Plan, read_file
from spark_strategy.tfrecord.schemas import kept_fields, schema_fields
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

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._read_options()  # Spark makes it to plan, so that mistakes are answered before a task

    def _read_options(self) -> tuple[Options, list[Place]]:
        options = parse_options(self.options, **self.defaults)
        return options, [options.place(path) for path in paths_of(self.options)]

    @traceback_kept()
    def schema(self) -> StructType:
        """The schema that a part of the records, or all of them, has."""
        options, places = self._read_options()
        files = find_files(places, options.listing)
        fields = schema_fields(options, files) if files else kept_fields(places)
        if fields is None:
            raise PlanError(
                f"No files in {', '.join(place.url for place in places)} to infer a schema from. "
                "Give one: spark.read.schema('a BIGINT').format('tfrecord')."
            )
        if options.columns:
            by_name = {field["name"]: field for field in fields}
            if missing := [name for name in options.columns if name not in by_name]:
                raise PlanError(f"columns names {missing}, but there are {sorted(by_name)}.")
            fields = [by_name[name] for name in options.columns]
        if options.mode is Mode.PERMISSIVE:
            name = options.corrupt_column
            fields.append({"name": name, "type": "string", "nullable": True, "metadata": {}})
        return StructType.fromJson({"type": "struct", "fields": fields})

    @traceback_kept()
    def reader(self, schema: StructType) -> DataSourceReader:
        """Reads these columns."""
        options, places = self._read_options()
        files = find_files(places, options.listing)
        kind = _FilteringReader if options.pushes_filters else _Reader
        return kind(_planned(schema, options, files), files)

    @traceback_kept()
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
        return StreamReader(_planned(schema, options, []), places)

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
        job = Job(places[0], features_of(schema.jsonValue()), options, overwrite, schema.json())
        job.check()
        return job


def register_tfrecord(spark: SparkSession) -> None:
    """Make ``format("tfrecord")`` known to a session, classic or Connect.

    Paths without a scheme then mean the session's default filesystem, and the settings of the
    session that ``_SETTINGS`` lists are the defaults of the options. Spark hands a Python source
    no settings later: call this again when one has changed.
    """
    asked = {option: spark.conf.get(key, None) for option, key in _SETTINGS.items()}
    defaults = {option: value for option, value in asked.items() if value}
    # A Connect client sees only what the settings say; its server's Python looks for the rest.
    if not is_connect(spark) or spark.conf.get(_DEFAULT, None):
        defaults["fileRoot"] = json.dumps(asdict(file_root(spark)))
    source = type("TFRecordDataSource", (TFRecordDataSource,), {"defaults": defaults})
    with own_python(spark), short_errors(spark):
        spark.dataSource.register(source)


# Options whose default is a setting of the session.
_SETTINGS: Final = {
    "filterPushdown": "spark.sql.python.filterPushdown.enabled",
    "partitionOverwriteMode": "spark.sql.sources.partitionOverwriteMode",
    "partitionColumnTypeInference": "spark.sql.sources.partitionColumnTypeInference.enabled",
    "ignoreMissingFiles": "spark.sql.files.ignoreMissingFiles",
    "timeZone": "spark.sql.session.timeZone",
}
_DEFAULT: Final = "spark.hadoop.fs.defaultFS"


def _planned(schema: StructType, options: Options, files: Sequence[File]) -> Plan:
    columns = features_of(schema.jsonValue())
    plan = Plan(columns, frozenset(partition_types(files)), options)
    plan.check()
    plan.check_folders(files)
    return plan


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
    def __init__(self, plan: Plan, files: Sequence[File]) -> None:
        self._plan = plan
        self._files = list(files)

    def partitions(self) -> list[InputPartition]:
        return [*grouped(self._files, self._plan.options.partition_bytes)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        if isinstance(partition, Files):  # Spark makes up one for no files
            with traceback_kept():
                for file in partition.files:
                    yield from read_file(file, self._plan)


class _FilteringReader(_Reader):
    """Skips folders; Spark refuses this method where its setting for it is off."""

    def pushFilters(self, filters: Any) -> Any:  # noqa: N802 - Spark's name
        from spark_strategy.tfrecord.filters import may_match

        types = {
            column.name: column.arrow
            for column in self._plan.columns
            if column.name in self._plan.partitioned
        }
        zone = self._plan.options.zone
        self._files = [
            file for file in self._files if may_match(file.partition, types, filters, zone)
        ]
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

    @traceback_kept()
    def write(self, iterator: Iterator[pa.RecordBatch]) -> Written:
        try:
            return Written(write_files(self._job, iterator, task_name()))
        finally:
            withdraw_if_late(self._job)

    @traceback_kept()
    def commit(self, messages: Sequence[Any]) -> None:
        commit(self._job, [message.files for message in messages if message is not None])

    def abort(self, messages: Sequence[Any]) -> None:  # noqa: ARG002 - Spark's signature
        abort(self._job)


class _Nothing(DataSourceArrowWriter):
    """Leaves what is there as it is."""

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Written:  # noqa: ARG002
        return Written(())
