"""TFRecord files as they arrive, and a stream's batches as files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.datasource import (
    DataSourceStreamArrowWriter,
    DataSourceStreamReader,
    InputPartition,
)
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxFiles

from spark_strategy.tfrecord.files import File, Place
from spark_strategy.tfrecord.listing import find_files
from spark_strategy.tfrecord.reading import Plan, missing, read_file
from spark_strategy.tfrecord.source import Files, Written, grouped, task_name
from spark_strategy.tfrecord.writing import (
    Job,
    abort,
    commit,
    renamed,
    stream_prefix,
    write_files,
)

# Characters of a file's mark: 8 bytes in base 64. That a new file among 10,000 gets the mark of
# another one by chance has the odds 5e-16.
_MARK: Final = 11


class StreamReader(DataSourceStreamReader):
    """New files of some folders, each once.

    An offset names the files of its batch, and holds 8 bytes for each file that was taken before.
    Of these it keeps the newest ``maxSeenFiles``, and none that is ``maxFileAge`` older than the
    newest one. Files that come later with a time before all that are kept are ignored, as Spark's
    own file source ignores those older than ``maxFileAge``.
    """

    def __init__(self, plan: Plan, places: Sequence[Place]) -> None:
        self._plan = plan
        self._places = list(places)

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 - Spark's name
        """Nothing taken yet."""
        return {"batch": [], "since": None, "seen": ""}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 - Spark's name
        """``maxFilesPerTrigger``."""
        most = self._plan.options.max_files
        return ReadMaxFiles(most) if most else ReadAllAvailable()

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802
        """The files of the next batch: the oldest new ones first."""
        files = {file.url: file for file in self._found()}
        since, taken = start["since"], {*marks_of(start["seen"]), *map(mark, start["batch"])}
        new = sorted(
            (file.modified, url)
            for url, file in files.items()
            if mark(url) not in taken and (since is None or file.modified >= since)
        )
        if not new:
            return start
        most = limit.max_files if isinstance(limit, ReadMaxFiles) else len(new)
        batch = [url for _, url in new[:most]]
        taken.update(map(mark, batch))
        times = sorted((file.modified for url, file in files.items() if mark(url) in taken))
        since = max(since or 0.0, self._oldest_kept(times))
        kept = sorted(
            mark(url)
            for url, file in files.items()
            if mark(url) in taken and file.modified >= since
        )
        return {"batch": batch, "since": since, "seen": "".join(kept)}

    def _oldest_kept(self, times: Sequence[float]) -> float:
        """The time from which on taken files are kept, of the times of all that were taken."""
        options = self._plan.options
        most = options.max_seen or len(times)
        return max(times[-1] - options.max_age_s, times[max(0, len(times) - most)])

    def _found(self) -> list[File]:
        return find_files(self._places, self._plan.options.listing, must_exist=False)

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[InputPartition]:
        """The files of one batch.

        Raises:
            DataError: one is gone, and ``ignoreMissingFiles`` is false.
        """
        if start == end:
            return []
        found = {file.url: file for file in self._found()}
        if gone := [url for url in end["batch"] if url not in found]:
            missing(gone, self._plan.options)
        files = [found[url] for url in end["batch"] if url in found]
        return grouped(files, self._plan.options.partition_bytes)

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of some of the files."""
        assert isinstance(partition, Files)
        for file in partition.files:
            partitioned = frozenset(file.partition)
            plan = Plan(self._plan.columns, partitioned, self._plan.options)
            yield from read_file(file, plan)


def mark(url: str) -> str:
    """Eight bytes that stand for a file, as 11 characters of text."""
    digest = hashlib.sha256(url.encode()).digest()[:8]
    return base64.urlsafe_b64encode(digest)[:_MARK].decode()


def marks_of(text: str) -> list[str]:
    """The marks that an offset holds one after the other."""
    return [text[at : at + _MARK] for at in range(0, len(text), _MARK)]


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
