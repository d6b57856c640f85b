"""Files that the ranks read themselves: pattern -> shares -> datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from spark_strategy.data.shares import File, FilePart, shares
from spark_strategy.errors import PlanError
from spark_strategy.keras import collective
from spark_strategy.keras.place import Place
from spark_strategy.topology import is_count
from spark_strategy.worker import listing, records

if TYPE_CHECKING:
    from spark_strategy.worker.context import WorkerContext
    from spark_strategy.worker.records import Example, Reading


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
        *,
        batch_size: int,
        repeat: bool,
        drop_remainder: bool,
    ) -> tf.data.Dataset:
        """See ``WorkerContext.tfrecords``."""
        context, strategy = self._context, self._context.strategy
        replicas = strategy.num_replicas_in_sync
        self._check(batch_size, reading.shuffle, max(replicas, context.num_workers))
        files = self._found(pattern)
        dealt = self._shares(files)
        own = reading.records(dealt[context.rank])
        if context.num_workers > 1 and not self._in_step:
            share, extra = divmod(batch_size, context.num_workers)
            batches = own.batch(share + (context.rank < extra), drop_remainder)
            return records.elements(batches, example, repeat=repeat)
        counts = records.counted(files, reading, strategy, context.rank, context.num_workers)
        batches = records.in_step(
            own,
            [sum(part.records(counts[part.path]) for part in parts) for parts in dealt],
            context.rank,
            batch_size=batch_size,
            drop_remainder=drop_remainder,
            replicas=1 if replicas == 1 else len(strategy.extended.worker_devices),
        )
        return records.elements(batches, example, repeat=repeat)

    def _found(self, pattern: str | list[str]) -> list[File]:
        context = self._context
        if not self._in_step:
            return listing.found(pattern, context.file_root)
        files = listing.found(pattern, context.file_root) if context.is_chief else []
        return listing.agreed(files, context.strategy, Place(context.is_chief, context.scratch))

    def _shares(self, files: list[File]) -> tuple[tuple[FilePart, ...], ...]:
        return shares(files, self._context.num_workers)

    @staticmethod
    def _check(batch_size: object, shuffle: object, least: int) -> None:
        if not is_count(batch_size) or batch_size < least:  # type: ignore[operator] # it is one
            raise PlanError(
                f"batch_size is the global batch size, a whole number of at least {least} here (a "
                f"record for each replica); found {batch_size!r}."
            )
        if not is_count(shuffle):
            raise PlanError(f"shuffle is a window of whole records, 0 for none; found {shuffle!r}.")
