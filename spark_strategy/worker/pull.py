"""Files that the ranks read themselves: pattern -> shares -> datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from spark_strategy.data.paths import FileRoot
from spark_strategy.data.shares import File, FilePart, records_of, shares
from spark_strategy.errors import PlanError
from spark_strategy.keras import collective
from spark_strategy.keras.parameter_server.coordination import workers_of
from spark_strategy.keras.place import Place
from spark_strategy.worker import listing, records
from spark_strategy.worker.feed import Pipeline, check, plain
from spark_strategy.worker.parquet import Parquet, RowGroup
from spark_strategy.worker.records_of_workers import of_workers
from spark_strategy.worker.row_groups import Slice, rows_of
from spark_strategy.worker.sharded import sharded

if TYPE_CHECKING:
    from spark_strategy.data.columns import Column
    from spark_strategy.worker.context import WorkerContext
    from spark_strategy.worker.in_step import Batching
    from spark_strategy.worker.records import Example, Reading
    from spark_strategy.worker.selection import Selection


class Pull:
    """What one rank reads.

    Args:
        context: whose rank and strategy.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        # Others can be told something, and take their steps together with this rank.
        self._in_step = collective.is_multi_worker(context.strategy)

    def parts(self, pattern: str | list[str]) -> tuple[FilePart, ...]:
        """See ``WorkerContext.files``."""
        return self._shares(self._found(pattern))[self._context.rank]

    def tfrecords(
        self,
        pattern: str | list[str],
        example: Example,
        reading: Reading,
        batching: Batching,
        *,
        repeat: bool,
    ) -> tf.data.Dataset:
        """See ``WorkerContext.tfrecords``."""
        context = self._context
        self._check(batching, reading.shuffle)
        files = self._found(pattern)

        def counts() -> dict[str, int]:
            return records.counted(
                files, reading, context.strategy, context.rank, context.num_workers
            )

        if workers := workers_of(context.strategy):
            return of_workers(
                shares(files, workers), counts, example, reading, batching, repeat=repeat
            )
        dealt = self._shares(files)
        batches = self._batches(reading.records(dealt[context.rank]), dealt, counts, batching)
        return records.elements(batches, example, repeat=repeat)

    def parquet(
        self,
        pattern: str | list[str],
        selection: Selection,
        columns: Mapping[str, Column],
        batching: Batching,
        *,
        shuffle: int,
        seed: int | None,
        repeat: bool,
    ) -> tf.data.Dataset:
        """See ``WorkerContext.parquet``."""
        self._check(batching, shuffle)
        if workers_of(self._context.strategy):
            raise PlanError(
                "A worker of parameter-server training runs no Python, and reading Parquet does. "
                "Feed the rows from Spark, as in train.on(spark.read.parquet(...)), or write them "
                "as TFRecords."
            )
        files = self._found(pattern, listing.rows_of_tables)
        table = Parquet([file.path for file in files])
        told = self._agreed(lambda: [(g.path, g.number, g.rows) for g in table.row_groups()])
        groups = {f"{place:012d}": RowGroup(*group) for place, group in enumerate(told)}
        wanted = () if selection.features is None else tuple(selection.named())
        specs = table.specs(wanted, columns, tuple(groups.values()))
        pipeline = Pipeline(specs, selection.resolved(specs), shuffle)
        dealt = self._shares([File(key, group.rows) for key, group in groups.items()])
        own = [Slice.of(groups[part.path], part) for part in dealt[self._context.rank]]
        rows = rows_of(table, own, pipeline, seed)
        batches = self._batches(
            rows, dealt, lambda: {key: group.rows for key, group in groups.items()}, batching
        )
        if pipeline.is_ragged:
            batches = batches.map(plain(pipeline.element))
        return sharded((batches.repeat() if repeat else batches).prefetch(2))

    def _batches(
        self,
        rows: tf.data.Dataset,
        dealt: Sequence[Sequence[FilePart]],
        counts: Callable[[], Mapping[str, int]],
        batching: Batching,
    ) -> tf.data.Dataset:
        """This rank's rows, cut; the counts by path are asked for where the ranks go in step."""
        context = self._context
        if context.num_workers > 1 and not self._in_step:
            return batching.alone(rows, context.rank, context.num_workers)
        known, strategy = counts(), context.strategy
        return batching.in_step(
            rows,
            records_of(dealt, known),
            context.rank,
            # Asked first: the default strategy has one replica and no list of devices.
            replicas=1
            if strategy.num_replicas_in_sync == 1
            else len(strategy.extended.worker_devices),
        )

    def _found(
        self,
        pattern: str | list[str],
        look: Callable[[str | list[str], FileRoot], list[File]] = listing.found,
    ) -> list[File]:
        root = self._context.file_root
        told = self._agreed(lambda: [(f.path, f.size) for f in look(pattern, root)])
        return [File(*file) for file in told]

    def _agreed(self, look: Callable[[], Any]) -> Any:
        """What the chief sees, on every rank: a file that arrives meanwhile divides nobody."""
        context = self._context
        if not self._in_step:
            return look()
        seen = look() if context.is_chief else None
        return listing.told(seen, context.strategy, Place(context.is_chief, context.scratch))

    def _shares(self, files: list[File]) -> tuple[tuple[FilePart, ...], ...]:
        return shares(files, self._context.num_workers)

    def _check(self, batching: Batching, shuffle: object) -> None:
        context = self._context
        replicas = max(context.strategy.num_replicas_in_sync, context.num_workers)
        check(batching.batch_size, shuffle, replicas)
