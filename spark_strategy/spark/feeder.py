"""Turns a task's rows into blocks, in a thread of its own, while the child trains on them."""

from __future__ import annotations

import errno
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from spark_strategy.data.blocks import Block, encode
from spark_strategy.data.feed import BLOCK_BYTES, FeedOrder, FeedStats
from spark_strategy.data.row_ledger import Arrived, Counts
from spark_strategy.data.spool import SpoolWriter
from spark_strategy.data.steps import Shard
from spark_strategy.errors import CapacityError, ExecutorEnvironmentError
from spark_strategy.folder import ChildFolder
from spark_strategy.spark.alone import OwnSeat
from spark_strategy.spark.seat import Seat

# What is left free on the disk that holds the rows, at the most.
_RESERVE_BYTES: Final = 1 << 30
_RESERVE_SHARE: Final = 0.05
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it, for us alone


class Feeder:
    """Spools the batches that Spark sends to one task.

    Args:
        order: the columns, and how much room they may take.
        batches: Spark's iterator; nobody else may read from it.
        place: an existing empty folder for the blocks.
    """

    def __init__(self, order: FeedOrder, batches: Iterator[pa.RecordBatch], place: Path) -> None:
        self._order = order
        self._batches = batches
        self._place = place
        self._spools = {name: _spool(place / name) for name in order.columns}
        self._stopped = threading.Event()
        self._stats = FeedStats()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: Exception | None = None
        """What ended the feed early: a SparkStrategyError, or what Spark's iterator raised."""

    def start(self) -> None:
        """Begin; rows that the child does not need yet wait on disk."""
        self._thread.start()

    @property
    def counts(self) -> dict[str, Shard]:
        """Rows spooled so far, by name of the DataFrame."""
        return {name: Shard(one.rows, one.complete) for name, one in self._spools.items()}

    @property
    def stats(self) -> FeedStats:
        """So far; without what only the child knows."""
        return self._stats

    def stop(self, timeout_s: float) -> None:
        """Take no more batches. One that Spark is still computing cannot be hurried."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set() and (batch := self._next()) is not None:
                self._spool(batch)
            if not self._stopped.is_set():
                for spool in self._spools.values():
                    spool.end()
        # Whatever it is, the task's main thread says so.
        except Exception as error:  # noqa: BLE001
            self.error = error
        finally:
            for spool in self._spools.values():
                spool.close()

    def _next(self) -> pa.RecordBatch | None:
        began = time.monotonic()
        batch = next(self._batches, None)
        waited = time.monotonic() - began
        self._stats = replace(self._stats, spark_wait_s=self._stats.spark_wait_s + waited)
        return batch

    def _spool(self, batch: pa.RecordBatch) -> None:
        began = time.monotonic()
        rows = spool_bytes = 0
        for name, part in by_name(batch, tuple(self._spools)):
            for block in encode(part, self._order.columns[name], block_bytes=BLOCK_BYTES):
                self._write(name, block)
                rows += block.rows
                spool_bytes += block.nbytes
        stats = self._stats
        self._stats = replace(
            stats,
            rows=stats.rows + rows,
            spool_bytes=stats.spool_bytes + spool_bytes,
            write_s=stats.write_s + time.monotonic() - began,
        )

    def _write(self, name: str, block: Block) -> None:
        self._check_room(block.nbytes)
        try:
            self._spools[name].write(block.rows, block.buffers)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CapacityError(self._no_room("the disk is full")) from error

    def _check_room(self, more_bytes: int) -> None:
        taken = sum(spool.spool_bytes for spool in self._spools.values())
        limit = self._order.cache.max_bytes
        if limit is not None and taken + more_bytes > limit:
            raise CapacityError(self._no_room(f"Cache(max_bytes={limit}) is used up"))
        disk = shutil.disk_usage(self._place)
        if disk.free - more_bytes < min(_RESERVE_BYTES, _RESERVE_SHARE * disk.total):
            raise CapacityError(self._no_room(f"only {disk.free / 2**20:,.0f} MiB are left free"))

    def _no_room(self, why: str) -> str:
        counts = ", ".join(f"{shard.rows:,} of {name!r}" for name, shard in self.counts.items())
        taken = sum(spool.spool_bytes for spool in self._spools.values())
        return (
            f"has no room for more rows below {self._place}: {why}, after {taken / 2**20:,.0f} MiB "
            f"(rows: {counts}). Use more workers or fewer columns, narrow dtypes with "
            "Column(dtype=...), raise Cache(max_bytes=...), or give Spark a larger scratch disk "
            "(spark.local.dir)."
        )


def spool_path(feed: FeedOrder | None, folder: ChildFolder, host: str) -> Path:
    """Where a rank's rows go: below its child's folder, or in a new folder in memory.

    Raises:
        ExecutorEnvironmentError: rows are to be kept in memory, and this host cannot.
    """
    if feed is None or not feed.cache.memory:
        return folder.spool_path
    if not _MEMORY.is_dir():
        raise ExecutorEnvironmentError(
            f"Cache(memory=True) keeps rows in {_MEMORY}, which {host} does not have. "
            "Use Cache(memory=False)."
        )
    return Path(tempfile.mkdtemp(prefix="spark_strategy-", dir=_MEMORY))


class RowCounts:
    """Keeps the child informed of what rows the ranks have.

    Args:
        feeder: this rank's.
        seat: the line to the other ranks.
        folder: the child's.
    """

    def __init__(self, feeder: Feeder, seat: Seat | OwnSeat, folder: ChildFolder) -> None:
        self._feeder = feeder
        self._seat = seat
        self._folder = folder
        self._said: Counts = {}
        self._written: Mapping[str, Arrived] = {}
        self._next = 0.0

    def exchange(self) -> None:
        """Tell the others what has changed, take in what they say. Call it often."""
        rows = self._seat.rows
        if rows is not self._written:
            self._written = rows
            if rows:
                self._folder.write_rows(rows)
        counts = self._feeder.counts
        if counts == self._said:
            return
        now = time.monotonic()
        # The end of a rank's rows is what the others may be waiting for.
        has_all = all(one.complete for one in counts.values())
        if now >= self._next or has_all:
            self._next = now + self._seat.pace_s
            self._said = counts
            self._seat.report_rows(counts)


def by_name(batch: pa.RecordBatch, names: tuple[str, ...]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """A batch's rows, by the DataFrame they come from.

    Several DataFrames travel as one, with a struct column for each; a row has a value in one of
    them (``frames.py`` makes it so). One DataFrame travels as it is.
    """
    if len(names) == 1:
        yield names[0], batch
        return
    for name in names:
        column = batch.column(batch.schema.get_field_index(name))
        present = column.filter(column.is_valid()) if column.null_count else column
        if len(present):
            yield name, pa.RecordBatch.from_struct_array(present)


def _spool(path: Path) -> SpoolWriter:
    path.mkdir(parents=True)
    return SpoolWriter(path)
