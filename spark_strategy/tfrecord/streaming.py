"""TFRecord files as they arrive, and a stream's batches as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql.datasource import (
    DataSourceStreamArrowWriter,
    DataSourceStreamReader,
    InputPartition,
)
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxFiles

from spark_strategy.tfrecord.files import File, Place, find_files
from spark_strategy.tfrecord.reading import Plan, read_file
from spark_strategy.tfrecord.source import Files, Written, grouped, task_name
from spark_strategy.tfrecord.writing import (
    Job,
    abort,
    commit,
    renamed,
    stream_prefix,
    write_files,
)


class StreamReader(DataSourceStreamReader):
    """New files of a folder, each once.

    An offset holds the files read so far by path and time, without those that are ``maxFileAge``
    older than the newest: files that come later with such a time are ignored, as by Spark's own
    file source.
    """

    def __init__(self, plan: Plan, place: Place) -> None:
        self._plan = plan
        self._place = place

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 - Spark's name
        """Nothing read yet."""
        return {"files": {}}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 - Spark's name
        """``maxFilesPerTrigger``."""
        most = self._plan.options.max_files
        return ReadMaxFiles(most) if most else ReadAllAvailable()

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802
        """The files read when the next batch is done: the oldest new ones first."""
        seen: Mapping[str, float] = start["files"]
        found = {file.path: file.modified for file in self._found()}
        newest = max([*seen.values(), *found.values()], default=0.0)
        # HDFS counts milliseconds, the others seconds.
        age = self._plan.options.max_age_s * (1000 if newest > 1e11 else 1)
        new = sorted(
            (modified, path)
            for path, modified in found.items()
            if path not in seen and modified >= newest - age
        )
        most = limit.max_files if isinstance(limit, ReadMaxFiles) else len(new)
        kept = {path: time for path, time in seen.items() if time >= newest - age}
        return {"files": {**kept, **{path: time for time, path in new[:most]}}}

    def _found(self) -> list[File]:
        filesystem = self._place.filesystem
        return find_files([self._place]) if filesystem.exists(self._place.path) else []

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[InputPartition]:
        """The files of one batch."""
        new = end["files"].keys() - start["files"].keys()
        files = [file for file in self._found() if file.path in new]
        return grouped(files, self._plan.options.partition_bytes)

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of some of the files."""
        assert isinstance(partition, Files)
        for file in partition.files:
            partitioned = frozenset(file.partition)
            plan = Plan(self._plan.columns, partitioned, self._plan.options)
            yield from read_file(self._place, file, plan)


class StreamWriter(DataSourceStreamArrowWriter):
    """Each micro-batch's rows as files of their own.

    With a ``checkpointLocation`` among the options each batch is written exactly once; without it
    a batch that Spark tries again after a crash may be there twice.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Written:
        """Writes a task's rows to a temporary folder."""
        return Written(write_files(self._job, iterator, task_name()))

    def commit(self, messages: Sequence[Any], batchId: int) -> None:  # noqa: N803 - Spark's name
        """Moves the batch's files to where they belong."""
        prefix = stream_prefix(self._job.options, batchId)
        written = [message.files for message in messages if message is not None]
        commit(self._job, renamed(self._job, written, prefix), replaces=prefix)

    def abort(self, messages: Sequence[Any], batchId: int) -> None:  # noqa: ARG002, N803
        """Removes the batch's files."""
        abort(self._job)
