"""Batches to files that appear all at once, when the job commits."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spark_strategy.errors import PlanError, SparkStrategyError
from spark_strategy.tfrecord.encoding import encode_batch
from spark_strategy.tfrecord.features import Feature, check_message
from spark_strategy.tfrecord.files import Place
from spark_strategy.tfrecord.listing import find_files
from spark_strategy.tfrecord.open_files import OpenFiles
from spark_strategy.tfrecord.options import Options
from spark_strategy.tfrecord.partitions import folder_of
from spark_strategy.tfrecord.schemas import KEPT_SCHEMA

# Readers pass over it. Each job has its own: a common parent would be removed by the one that ends
# while another begins.
_TEMPORARY: Final = "_temporary-"
_SUCCESS: Final = "_SUCCESS"


@dataclass(frozen=True, slots=True)
class Job:
    """One write, as the driver and its tasks share it.

    Attributes:
        place: the folder to write to.
        features: of the rows, in order.
        options: of the write.
        overwrite: whether what is there is replaced.
        schema: of the rows, as Spark writes it in JSON.
        key: names the job's temporary folder, and its files.
    """

    place: Place
    features: Sequence[Feature]
    options: Options
    overwrite: bool
    schema: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def stored(self) -> list[Feature]:
        """The columns that go into the records."""
        return [one for one in self.features if one.name not in self.options.partition_by]

    def check(self) -> None:
        """Refuse what cannot be written.

        Raises:
            PlanError: a column that no record can hold, or one to partition by that is missing.
        """
        names = [feature.name for feature in self.features]
        if missing := set(self.options.partition_by).difference(names):
            raise PlanError(
                f"partitionBy names {', '.join(sorted(missing))}, but the columns are "
                f"{', '.join(names)}."
            )
        nested = [f.name for f in self.features if f.depth and f.name in self.options.partition_by]
        if nested or not self.stored:
            raise PlanError(
                f"partitionBy={','.join(self.options.partition_by)!r} needs scalar columns, and "
                "at least one other column to write."
            )
        check_message(self.stored, self.options.message)

    @property
    def is_dynamic(self) -> bool:
        """Whether overwrite replaces only the folders that it writes to."""
        return self.options.is_dynamic and bool(self.options.partition_by)

    def exists(self) -> bool:
        """Whether files are there already."""
        filesystem, path = self.place.filesystem, self.place.path
        if not filesystem.exists(path):
            return False
        return filesystem.isfile(path) or bool(find_files([self.place]))

    @property
    def scratch(self) -> str:
        """The job's temporary folder."""
        return f"{self.place.path}/{_TEMPORARY}{self.key}"

    @property
    def begun(self) -> str:
        """The file that is there from :func:`begin` to the end of the job."""
        return f"{self.scratch}/_BEGUN"


def begin(job: Job) -> None:
    """Make the temporary folder, before any task does."""
    job.place.filesystem.makedirs(job.scratch, exist_ok=True)
    with job.place.filesystem.open(job.begun, "wb"):
        pass


def withdraw_if_late(job: Job) -> None:
    """Remove what a task has written whose job has ended meanwhile.

    Spark aborts a job as soon as one task has failed for good, and leaves the others two seconds
    (``spark.python.task.killTimeout``). What they write then nobody else would remove.

    Raises:
        SparkStrategyError: the job has ended.
    """
    if not job.place.filesystem.exists(job.begun):
        abort(job)
        raise SparkStrategyError(
            f"The write to {job.place.url} was given up, or this host does not see the driver's "
            "files there. Use a path that all hosts share."
        )


def write_files(job: Job, batches: Iterable[pa.RecordBatch], name: str) -> tuple[str, ...]:
    """Write one task's rows below the temporary folder.

    Args:
        job: of the task.
        batches: its rows.
        name: the task's, unique among all tries.

    Returns:
        The files, relative to the temporary folder; none for no rows.

    Raises:
        DataError: a null inside an array.
    """
    suffix = ".tfrecord.gz" if job.options.gzip else ".tfrecord"
    with OpenFiles(job.place, job.scratch, gzip=job.options.gzip) as files:
        for batch in batches:
            for folder, rows in _by_folder(job, batch):
                relative = f"{folder}/{name}{suffix}".lstrip("/")
                files.write(relative, encode_batch(rows, job.stored, job.options.message))
    return files.names


def _by_folder(job: Job, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each folder, without the columns that its name says."""
    by = job.options.partition_by
    if not batch.num_rows:
        return
    if not by:
        yield "", batch
        return
    names = [feature.name for feature in job.features]
    codes = np.zeros(batch.num_rows, np.int64)
    for name in by:
        encoded = batch.column(names.index(name)).dictionary_encode(null_encoding="encode")
        column = np.asarray(encoded.indices).astype(np.int64)
        codes = np.unique(codes * (len(encoded.dictionary) + 1) + column, return_inverse=True)[1]
    rest = batch.select([at for at, name in enumerate(names) if name not in by])
    for code in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == code)
        first = int(rows[0])
        values = {name: _value(batch.column(names.index(name))[first]) for name in by}
        yield folder_of(values, job.options.zone), rest.take(pa.array(rows))


def _value(scalar: pa.Scalar) -> Any:
    value = scalar.as_py()
    # As a Python float it would get digits that it never had: 0.10000000149011612.
    return np.float32(value) if value is not None and pa.types.is_float32(scalar.type) else value


def commit(job: Job, written: Iterable[Sequence[str]], *, replaces: str = "") -> None:
    """Move the tasks' files to where they belong, then mark the folder as complete.

    Args:
        job: whose tasks have all succeeded.
        written: what ``write_files`` returned, of each task.
        replaces: files whose name begins so are left over from an earlier try, and go.
    """
    filesystem, root = job.place.filesystem, job.place.path
    filesystem.makedirs(root, exist_ok=True)
    _remove(filesystem, f"{root}/{_SUCCESS}")
    before = [file.path for file in find_files([job.place])]
    moved = [relative for files in written for relative in files]
    for relative in moved:
        filesystem.makedirs(f"{root}/{relative}".rpartition("/")[0], exist_ok=True)
        filesystem.mv(f"{job.scratch}/{relative}", f"{root}/{relative}")
    new = {relative.rpartition("/")[0] for relative in moved}
    for path in before:
        folder, _, name = path[len(root.rstrip("/")) + 1 :].rpartition("/")
        replaced = job.overwrite and (not job.is_dynamic or folder in new)
        if replaced or (replaces and name.startswith(replaces)):
            filesystem.rm(path)
    _keep_schema(job, has_rows=bool(moved) or (bool(before) and not job.overwrite))
    abort(job)
    with filesystem.open(f"{root}/{_SUCCESS}", "wb"):
        pass


def _keep_schema(job: Job, *, has_rows: bool) -> None:
    """Write down the schema where no record tells it."""
    filesystem, path = job.place.filesystem, f"{job.place.path}/{KEPT_SCHEMA}"
    _remove(filesystem, path)
    if not has_rows:
        with filesystem.open(path, "wb") as stream:
            stream.write(job.schema.encode())


def abort(job: Job) -> None:
    """Remove what the tasks wrote."""
    filesystem = job.place.filesystem
    _remove(filesystem, job.begun)  # first: whoever is late must see it
    _remove(filesystem, job.scratch)


def _remove(filesystem: Any, path: str) -> None:
    if filesystem.exists(path):
        with suppress(FileNotFoundError):  # two jobs commit to one folder
            filesystem.rm(path, recursive=True)


def stream_key(job: Job) -> str:
    """The same for all of a stream's writers, and no other stream's."""
    return hashlib.sha256(f"{job.options.checkpoint} {job.place.url}".encode()).hexdigest()[:32]


def stream_prefix(options: Options, batch: int) -> str:
    """How the files of a stream's batch begin, the same when the batch is tried again.

    Empty without a ``checkpointLocation`` that says which stream it is.
    """
    if not options.checkpoint:
        return ""
    key = hashlib.sha256(options.checkpoint.encode()).hexdigest()[:12]
    return f"part-{key}-{batch:08d}-"


def renamed(job: Job, written: Iterable[Sequence[str]], prefix: str) -> list[list[str]]:
    """Put a prefix before the names of files in the temporary folder."""
    filesystem, found = job.place.filesystem, []
    for files in written:
        names: Mapping[str, str] = {
            relative: "/".join([*relative.split("/")[:-1], prefix + relative.split("/")[-1]])
            for relative in files
        }
        for old, new in names.items():
            filesystem.mv(f"{job.scratch}/{old}", f"{job.scratch}/{new}")
        found.append(list(names.values()))
    return found
