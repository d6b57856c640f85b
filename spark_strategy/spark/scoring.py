"""Scores the rows of one partition: Arrow in, the executor's model server, Arrow out."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import SparkFiles, TaskContext

from spark_strategy.data.answers import column, spread, values_in, vector
from spark_strategy.data.arrow_types import wide
from spark_strategy.data.blocks import Block, encode
from spark_strategy.data.columns import ColumnSpec
from spark_strategy.errors import DataError
from spark_strategy.serving import Output, ServerFolder, ServerOrder
from spark_strategy.spark import gpus
from spark_strategy.spark.channel import Channel
from spark_strategy.spark.servers import Shipped, opened

_log = logging.getLogger(__name__)

OnError = Literal["raise", "null"]
# Columns for the types that arrive, and what a server must know of them, pickled.
Fitting = Callable[[Sequence[pa.DataType]], tuple[tuple[ColumnSpec, ...], bytes]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, and how much memory.

    Attributes:
        idle_s: seconds that a server waits for its next client.
        start_timeout_s: seconds until a server must be ready.
        timeout_s: seconds that the model may take for a batch.
        max_models: models that an executor (or each of its GPUs) holds before an idle one ends.
        max_bytes: the same for the memory that they take on an executor; None for half of it.
    """

    idle_s: float = 300.0
    start_timeout_s: float = 300.0
    timeout_s: float = 600.0
    max_models: int = 4
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Scoring:
    """What every task is told, inside Spark's serialized task.

    Attributes:
        key: of the model's content.
        name: what to call the model in messages.
        model: gives the pickled model.
        fitting: says what the columns become.
        replied: what the model gives.
        head: makes the columns' values of the model's; None to take them as they are.
        outputs: the columns.
        vectors: those that are Spark ML vectors.
        nested: whether they are fields of a struct, as several are.
        batch_size: rows of a batch.
        on_error: what becomes of a row that is no tensor.
        cores: of the executor; None for as many as the machine lets it use.
    """

    key: str
    name: str
    model: Shipped = field(repr=False)
    fitting: Fitting
    replied: tuple[Output, ...]
    head: Callable[[list[Any]], list[Any]] | None
    outputs: tuple[Output, ...]
    vectors: frozenset[str]
    nested: bool
    batch_size: int
    on_error: OnError
    limits: Limits
    cores: int | None


def score(scoring: Scoring, batches: Iterator[Any]) -> Iterator[pa.Array]:
    """The results for the rows of a partition, in order.

    Args:
        scoring: what to do.
        batches: of each, an Arrow array for each argument; one alone comes without a tuple.

    Raises:
        DataError: a row is no tensor, and ``on_error`` is "raise".
        WorkerError: the model failed, or could not be loaded.
    """
    with ExitStack() as held:
        partition: _Partition | None = None
        for batch in rebatched(batches, scoring.batch_size):
            if partition is None:
                partition = _Partition(scoring, batch.schema.types, held)
            yield from partition.take(batch)
        if partition is not None:
            yield from partition.rest()


def rebatched(batches: Iterator[Any], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``rows``; the last one may be smaller."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for arrays in batches:
        columns = list(arrays) if isinstance(arrays, tuple) else [arrays]
        batch = pa.RecordBatch.from_arrays(columns, [f"{k}" for k in range(len(columns))])
        place = 0
        while place < batch.num_rows:
            part = batch.slice(place, rows - count)
            place += part.num_rows
            count += part.num_rows
            waiting.append(part)
            if count == rows:
                yield joined(waiting)
                waiting, count = [], 0
    if waiting:
        yield joined(waiting)


def joined(parts: list[pa.RecordBatch], *, reach: int = 2**31 - 1) -> pa.RecordBatch:
    """Batches as one, however large it is; above ``reach`` bytes with offsets of 64 bits."""
    if len(parts) == 1:
        return parts[0]
    table = pa.Table.from_batches(parts)
    if table.nbytes > reach:
        table = table.cast(pa.schema([one.with_type(wide(one.type)) for one in table.schema]))
    # Texts that offsets of 32 bits do not reach would be left as several batches.
    (batch,) = table.combine_chunks().to_batches()
    return batch


class _Partition:
    """The rows of one partition on their way."""

    def __init__(self, scoring: Scoring, types: Sequence[pa.DataType], held: ExitStack) -> None:
        self._scoring = scoring
        self._void = [place for place, kind in enumerate(types, 1) if pa.types.is_null(kind)]
        if not self._void:
            specs, program = scoring.fitting(types)
            self._specs = tuple(replace(spec, path=(f"{k}",)) for k, spec in enumerate(specs))
            self._channel = held.enter_context(_channel(scoring, program))
        self._waiting: deque[npt.NDArray[np.bool_]] = deque()
        self._bad: Counter[str] = Counter()

    def take(self, batch: pa.RecordBatch) -> Iterator[pa.Array]:
        """Send a batch; results that are due."""
        block, good = self._encoded(batch)
        if block is None or self._channel.is_full:
            yield from self._due(1 if block is not None else 0)
        if block is not None:
            self._channel.send(block.nbytes, block.buffers)
        self._waiting.append(good)

    def rest(self) -> Iterator[pa.Array]:
        """The results that are left."""
        yield from self._due(len(self._waiting))
        if self._bad:
            counts = ", ".join(f"{name!r}: {count:,}" for name, count in self._bad.items())
            _log.warning("Rows that got null because of a column: %s", counts)

    def _due(self, count: int) -> Iterator[pa.Array]:
        """At least ``count`` results of batches that were sent, and those of bad rows before."""
        while self._waiting and (count > 0 or not self._waiting[0].any()):
            good = self._waiting.popleft()
            count -= bool(good.any())
            yield self._result(good)

    def _encoded(self, batch: pa.RecordBatch) -> tuple[Block | None, npt.NDArray[np.bool_]]:
        """The good rows as a block, if there are any, and which they are."""
        if self._void:
            return None, self._all_null(batch.num_rows)
        rows = np.arange(batch.num_rows)
        good = np.ones(batch.num_rows, np.bool_)
        while True:
            try:
                return next(encode(batch, self._specs, block_bytes=1 << 62), None), good
            except DataError as error:
                if self._scoring.on_error == "raise":
                    raise
                bad = list(error.rows)
                self._bad[error.column or ""] += len(bad)
                good[rows[bad]] = False
                rows = np.delete(rows, bad)
                batch = batch.take(pa.array(np.delete(np.arange(batch.num_rows), bad)))

    def _all_null(self, rows: int) -> npt.NDArray[np.bool_]:
        """What a literal NULL makes of each row, whatever the type that it has not."""
        name = f"argument {self._void[0]}"
        if self._scoring.on_error == "raise":
            raise DataError(f"{name.capitalize()} is null in every row.", column=name, rows=(0,))
        self._bad[name] += rows
        return np.zeros(rows, np.bool_)

    def _result(self, good: npt.NDArray[np.bool_]) -> pa.Array:
        scoring, rows = self._scoring, int(good.sum())
        reply = self._channel.take() if rows else memoryview(b"")
        values = list(values_in(reply, scoring.replied, rows))
        if scoring.head is not None:
            values = scoring.head(values)
        made = [
            spread(
                vector(one) if output.name in scoring.vectors else column(one, output.shape), good
            )
            for output, one in zip(scoring.outputs, values, strict=True)
        ]
        if not scoring.nested:
            return made[0]
        return pa.StructArray.from_arrays(made, names=[one.name for one in scoring.outputs])


def _channel(scoring: Scoring, program: bytes) -> Channel:
    """A line to the server for this model on this executor, and on this task's GPUs."""
    free = len(os.sched_getaffinity(0))
    threads = min(scoring.cores or free, free)
    context = TaskContext.get()
    resources = {
        name: one.addresses for name, one in (context.resources() if context else {}).items()
    }
    settings = gpus.environment(gpus.assigned(resources, None))
    limits = scoring.limits
    order = ServerOrder(
        program,
        scoring.replied,
        threads,
        idle_s=limits.idle_s,
        start_timeout_s=limits.start_timeout_s,
        max_models=limits.max_models,
        max_bytes=limits.max_bytes or 0,
    )
    about = repr(
        (scoring.key, hashlib.sha256(program).hexdigest(), threads, sorted(settings.items()))
    )
    name = f"spark_strategy_model-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    root = Path(SparkFiles.getRootDirectory()).absolute()
    return opened(
        ServerFolder(root / name),
        order,
        scoring.model,
        name=scoring.name,
        settings=settings,
        timeout_s=limits.timeout_s,
    )
